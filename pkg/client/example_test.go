package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/fusionspim/steward/pkg/client"
)

// The main job from start to end: create somebody, correct the name, opt out of alerts, record an
// act, and erase the person.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	steward, err := client.New("https://steward.example", client.WithAPIKey(os.Getenv("STEWARD_API_KEY")))
	if err != nil {
		log.Fatal(err)
	}

	var etag string
	user, err := steward.CreateUser(ctx, client.NewUser{FirstName: "Noor", LastName: "Haddad", Email: "noor.haddad@acme.example"}, client.StoreETag(&etag))
	if client.IsProblem(err, client.ProblemEmailTaken) {
		log.Fatal("somebody has that address already")
	} else if err != nil {
		log.Fatal(err)
	}

	// Correct only the version that was seen.
	if _, err = steward.UpdateUser(ctx, user.ID, client.UserPatch{LastName: client.Ptr("Haddad-Lind")}, client.IfMatch(etag)); err != nil {
		log.Fatal(err)
	}
	if _, err = steward.SetUserAlerts(ctx, user.ID, false); err != nil {
		log.Fatal(err)
	}

	results, err := steward.RecordAuditEntries(ctx, []client.NewAuditEntry{{
		ActorUserID: user.ID, Action: "product.updated", Target: client.AuditTarget{Type: "product", ID: "48151623"},
		OccurredAt: time.Now(), SourceID: "pim-1029384", Details: map[string]any{"changed": []string{"price"}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	for i, row := range results.Data {
		if row.Problem != nil {
			log.Printf("entry %d was refused: %s", i, row.Problem.Detail)
		}
	}

	for user, err := range steward.Users(ctx, client.UserFilter{Query: "had"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(user.ID, user.Status)
	}

	// Delete where the trail stays complete, redact where it would not.
	receipt, err := steward.DeleteUser(ctx, user.ID)
	var problem *client.Problem
	if errors.As(err, &problem) && problem.Code() == client.ProblemAuditTrailIncomplete {
		for _, reference := range problem.References {
			fmt.Printf("%d entries by %s since %s\n", reference.Count, reference.Source, reference.FirstAt)
		}
		receipt, err = steward.RedactUser(ctx, user.ID, client.ReasonLeftEmployment)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Kind, "done at", receipt.CompletedAt)
}

// A person's tool signs in, and is told by the service what is held and whom to ask.
func ExampleWithSession() {
	steward, err := client.New("https://steward.example", client.WithSession(client.Login{Customer: "acme", Email: "noor.haddad@acme.example", Password: os.Getenv("PASSWORD")}))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	defer func() { _ = steward.SignOut(ctx) }()
	me, err := steward.Me(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(me.FirstName, me.LastName, me.AmendGuidance.Text)
}
