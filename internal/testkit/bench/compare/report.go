package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// result is everything that was measured.
type result struct {
	Clients    int        `json:"clients"`
	Rounds     int        `json:"rounds"`
	Seconds    float64    `json:"seconds"` // for each operation on each server
	Users      int        `json:"users"`
	Operations []measured `json:"operations"`
	Process    *process   `json:"process,omitempty"`
}

// measured is one operation on both servers. Rates are requests per second, times are in
// milliseconds.
type measured struct {
	Operation   string    `json:"operation"`
	Ideal       float64   `json:"ideal_per_second"`
	Ours        float64   `json:"ours_per_second"`
	Ratio       float64   `json:"ratio"` // the median of the rounds' ratios
	Mark        float64   `json:"mark"`
	P50         float64   `json:"p50_ms"`
	P99         float64   `json:"p99_ms"`
	IdealP50    float64   `json:"ideal_p50_ms"`
	IdealP99    float64   `json:"ideal_p99_ms"`
	IdealRounds []float64 `json:"ideal_rounds"`
	OurRounds   []float64 `json:"our_rounds"`
}

// process is steward serve as a program. Memory is in MiB, and 0 where the system does not tell.
type process struct {
	StartMS      float64   `json:"start_ms"` // until /readyz answers 200; median
	Starts       []float64 `json:"starts_ms"`
	RSSStarted   float64   `json:"rss_started_mib"`
	RSSLoaded    float64   `json:"rss_loaded_mib"`
	PeakLoaded   float64   `json:"peak_loaded_mib"`
	PeakSignedIn float64   `json:"peak_signed_in_mib"`
}

func (r result) print(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "operation\tideal/s\tours/s\tratio\tmark\t\tp50 ms\tp99 ms\tideal p50\tp99\t")
	for _, one := range r.Operations {
		reached := "reached"
		if one.Ratio < one.Mark {
			reached = "missed"
		}
		fmt.Fprintf(
			table,
			"%s\t%.0f\t%.0f\t%.2f\t%.2f\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n",
			one.Operation,
			one.Ideal,
			one.Ours,
			one.Ratio,
			one.Mark,
			reached,
			one.P50,
			one.P99,
			one.IdealP50,
			one.IdealP99,
		)
	}
	_ = table.Flush() // standard output
	fmt.Fprintf(
		out,
		"\n%d clients, %d rounds, %.1f s for each; %d users; medians. Clients, both servers and PostgreSQL share the machine.\n",
		r.Clients,
		r.Rounds,
		r.Seconds,
		r.Users,
	)
	if p := r.Process; p != nil {
		fmt.Fprintf(
			out,
			"\nsteward serve answers /readyz %.0f ms after it was started (median of %d).\n",
			p.StartMS,
			len(p.Starts),
		)
		if p.RSSStarted > 0 {
			fmt.Fprintf(
				out,
				"Its memory: %.0f MiB then, %.0f MiB under the load above (peak %.0f), peak %.0f MiB with %d signing in at once.\n",
				p.RSSStarted,
				p.RSSLoaded,
				p.PeakLoaded,
				p.PeakSignedIn,
				r.Clients,
			)
		}
	}
}
