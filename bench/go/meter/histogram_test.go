package meter

import (
	"math"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var h Histogram
	for i := 1; i <= 10_000; i++ {
		h.Record(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]float64{0.01: 100e-6, 0.5: 5e-3, 0.99: 9.9e-3, 1: 10e-3} {
		if got := h.Quantile(q); math.Abs(got-want) > 0.016*want {
			t.Errorf("quantile %v: %v, not about %v", q, got, want)
		}
	}
}

func TestEveryDurationHasABucketThatStandsForIt(t *testing.T) {
	for shift := range 63 {
		for _, ns := range []uint64{1 << shift, 1<<shift + 1, 1<<(shift+1) - 1} {
			got := valueOf(bucketOf(ns))
			if math.Abs(got-float64(ns)) > 0.016*float64(ns) {
				t.Errorf("%d ns stand in the bucket of %v", ns, got)
			}
		}
	}
}

func TestNothingRecorded(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("%v, not 0", got)
	}
}
