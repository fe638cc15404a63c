package journeys

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// deadJob puts a job into the queue that was tried too often: a mail to somebody who is not there, so that it is done well when it is tried again.
func deadJob(t *testing.T, service *apptest.Service, of id.Customer) string {
	t.Helper()
	var job int64
	peek(t, service, `
		insert into jobs.river_job (args, kind, queue, max_attempts, attempt, state, finalized_at, errors)
		values (jsonb_build_object('customer_id', $1::text, 'user_id', gen_random_uuid(), 'about', 'invitation'), 'password_mail', 'mail', 2, 2, 'discarded', now(),
			array[jsonb_build_object('at', now(), 'attempt', 2, 'error', E'mail: no answer\nat line 5', 'trace', '')])
		returning id`, &job, of.String())
	return strconv.FormatInt(job, 10)
}

type jobPage struct {
	Data []struct {
		ID, Kind, State, Queue string
		CustomerID             *string `json:"customer_id"`
		Failure                *string
	}
	NextCursor *string `json:"next_cursor"`
}

func TestOperatorsLookAfterDeadJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operator := apptest.As(w.operator)
	list := func(query string) (page jobPage) {
		t.Helper()
		w.Call(t, "GET", "/v1/operator/jobs"+query, operator).Want(t, 200).Into(t, &page)
		return page
	}
	older, newer := deadJob(t, w.Service, w.acme.ID), deadJob(t, w.Service, w.other.ID)
	page := list("?state=dead&limit=1")
	if len(page.Data) != 1 || page.Data[0].ID != newer || page.NextCursor == nil || *page.Data[0].CustomerID != w.other.ID.String() {
		t.Fatalf("%+v", page)
	}
	if reason := *page.Data[0].Failure; reason != "mail: no answer" {
		t.Errorf("the reason is %q", reason)
	}
	page = list("?state=dead&limit=1&cursor=" + *page.NextCursor)
	if len(page.Data) != 1 || page.Data[0].ID != older || page.NextCursor != nil {
		t.Fatalf("%+v", page)
	}
	if page = list("?kind=nothing_of_ours"); len(page.Data) != 0 {
		t.Errorf("%+v", page)
	}

	retry := "/v1/operator/jobs/" + older + "/retry"
	key := apptest.Header("Idempotency-Key", "once-more")
	first := w.Call(t, "POST", retry, operator, key).Want(t, 202)
	again := w.Call(t, "POST", retry, operator, key).Want(t, 202)
	if again.Header.Get("Idempotency-Replayed") != "true" || string(again.Body) != string(first.Body) {
		t.Errorf("the second time: %v %s", again.Header, again.Body)
	}
	steps.Await(t, "the job to be done", func() bool {
		page := list("?state=done&kind=password_mail")
		return len(page.Data) > 0 && page.Data[len(page.Data)-1].ID == older
	})
	w.Call(t, "POST", retry, operator).WantProblem(t, 409, "job-not-retryable")
	for _, nobodys := range []string{"9999999999", "9223372036854775807", "9999999999999999999", "0", "-1", "x"} {
		w.Call(t, "POST", "/v1/operator/jobs/"+nobodys+"/retry", operator).WantProblem(t, 404, "not-found")
	}
	w.Call(t, "GET", "/v1/operator/jobs?state=asleep", operator).WantProblem(t, 400, "malformed-request")
	wantActs(t, w.Service, older, "operator job.retried")

	metrics := httptest.NewRecorder()
	w.Metrics().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	if text := metrics.Body.String(); !strings.Contains(text, `steward_jobs{queue="mail",state="dead"} 1`) || !strings.Contains(text, "steward_jobs_oldest_seconds") {
		t.Errorf("the metrics do not tell of the dead job:\n%s", text)
	}
}
