// Package meter measures latencies, and what a process spends.
package meter

import (
	"math/bits"
	"time"
)

// Each power of two of nanoseconds has this many buckets (2^stepBits), so that
// a quantile is right to about 1.5 %.
const stepBits = 6

// A Histogram counts durations in buckets that grow with the duration.
type Histogram struct {
	counts [(64 - stepBits) << stepBits]uint32
	total  uint64
}

func bucketOf(ns uint64) int {
	if ns < 1<<stepBits {
		return int(ns)
	}
	shift := bits.Len64(ns) - stepBits - 1
	return shift<<stepBits + int(ns>>shift)
}

// valueOf is the middle of a bucket.
func valueOf(bucket int) float64 {
	if bucket < 1<<(stepBits+1) {
		return float64(bucket)
	}
	shift := bucket>>stepBits - 1
	mantissa := uint64(bucket - shift<<stepBits)
	return float64(mantissa<<shift) + float64(uint64(1)<<shift)/2
}

// Record counts one duration.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

// Add counts what another histogram has.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// Quantile is in seconds; 0 if nothing was recorded.
func (h *Histogram) Quantile(q float64) float64 {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total-1))
	var seen uint64
	for i, n := range h.counts {
		seen += uint64(n)
		if seen > rank {
			return valueOf(i) / 1e9
		}
	}
	return 0
}
