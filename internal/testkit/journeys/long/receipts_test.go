package long

import (
	"testing"

	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// Every bit of a receipt is changed, and every byte into each that means something in JSON.
func TestEveryChangedByteOfAReceiptIsFound(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	steps.ChangeReceipt(t, service, service.Customer(t, "acme"), func(_ int, original byte) (others []byte) {
		for bit := range 8 {
			others = append(others, original^1<<bit)
		}
		return append(others, " \n\t\"\\{}[]:,-.+eE0n\x00\x7f\xff"...)
	})
}
