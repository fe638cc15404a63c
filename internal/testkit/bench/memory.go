package bench

import (
	"os"
	"strconv"
	"strings"
)

// Memory reads what a process has resident and what that was at most, in MiB; 0 where the system
// has no /proc.
func Memory(pid int) (now, peak float64) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kibibytes, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now = kibibytes / 1024
		case "VmHWM":
			peak = kibibytes / 1024
		}
	}
	return now, peak
}
