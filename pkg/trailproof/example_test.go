package trailproof_test

import (
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/fusionspim/steward/pkg/trailproof"
)

// A proof that GET /v1/audit-entries/{id}/proof answered with is checked without asking anybody, with the key that was kept from before.
func ExampleProof_Verify() {
	answer, err := os.ReadFile("testdata/proof.json")
	if err != nil {
		log.Fatal(err)
	}
	const key = "steward.example/customers/019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071/trail+54f93942+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"

	var proof trailproof.Proof
	if err := json.Unmarshal(answer, &proof); err != nil {
		log.Fatal(err)
	}
	entry, checkpoint, err := proof.Verify(key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(entry.Action, "of", entry.TargetType, entry.TargetID, "at", entry.OccurredAt)
	fmt.Println("is one of", checkpoint.Size, "entries")
	// Output:
	// product.updated of product 48151623 at 2026-03-01 12:00:00.00012 +0000 UTC
	// is one of 40 entries
}
