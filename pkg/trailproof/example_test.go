package trailproof_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/fusionspim/steward/pkg/trailproof"
)

// A proof that GET /v1/audit-entries/{id}/proof answered with is checked without asking anybody,
// with the key that was kept from before.
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

// verifierKey is the key of the trail, which was kept from before.
const verifierKey = "steward.example/customers/019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071/trail+54f93942+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"

// A checkpoint is opened with the key that was kept, and its text is kept for the next time.
func ExampleOpenCheckpoint() {
	kept, err := os.ReadFile("testdata/kept-checkpoint.txt")
	if err != nil {
		log.Fatal(err)
	}
	checkpoint, err := trailproof.OpenCheckpoint(string(kept), verifierKey)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(checkpoint.Size, "entries at", checkpoint.At)

	_, err = trailproof.OpenCheckpoint(strings.Replace(string(kept), "\n25\n", "\n24\n", 1), verifierKey)
	fmt.Println("one with another size is refused:", errors.Is(err, trailproof.ErrSignature))
	// Output:
	// 25 entries at 2026-11-27 09:30:00.00012 +0000 UTC
	// one with another size is refused: true
}

// The daily check: the newest trail begins with the one of the checkpoint that was kept. The answer
// is that of GET /v1/audit-checkpoints/latest?since_size=25.
func ExampleVerifyConsistency() {
	kept, err := os.ReadFile("testdata/kept-checkpoint.txt")
	if err != nil {
		log.Fatal(err)
	}
	older, err := trailproof.OpenCheckpoint(string(kept), verifierKey)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile("testdata/consistency.json")
	if err != nil {
		log.Fatal(err)
	}
	var answer struct {
		Checkpoint      string   `json:"checkpoint"`
		ConsistencyPath [][]byte `json:"consistency_path"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		log.Fatal(err)
	}
	newer, err := trailproof.OpenCheckpoint(answer.Checkpoint, verifierKey)
	if err != nil {
		log.Fatal(err)
	}
	switch err := trailproof.VerifyConsistency(older, newer, answer.ConsistencyPath); {
	case errors.Is(err, trailproof.ErrShorter), errors.Is(err, trailproof.ErrRewritten):
		log.Fatal("the trail was changed: ", err)
	case err != nil:
		log.Fatal(err)
	}
	fmt.Println("all", older.Size, "entries are among the", newer.Size)
	// Output:
	// all 25 entries are among the 40
}
