package meter

// Result is what a load client prints, as JSON. Times are seconds, sizes bytes.
type Result struct {
	Messages  int64   `json:"messages"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	ServerCPU float64 `json:"serverCpuSeconds"`
	ClientCPU float64 `json:"clientCpuSeconds"`
	// PeakMemory is the most that the server's process had resident.
	PeakMemory int64 `json:"peakMemoryBytes"`
	// Latencies are of what waits for an answer.
	P50 float64 `json:"p50Seconds,omitempty"`
	P99 float64 `json:"p99Seconds,omitempty"`
	// Drained says that every message was seen to arrive before the end.
	Drained bool `json:"drained"`
}
