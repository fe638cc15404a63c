package journeys

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/infra/totp"
	"github.com/fusionspim/steward/internal/integration/alert"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// target is what the path of an operation names.
type target string

const (
	noObject target = ""
	aUser    target = "user"
	anAPIKey target = "api key"
	aReceipt target = "receipt"
	anEntry  target = "entry"   // of the trail, with its place
	aSession target = "session" // of the caller's own
	anAlert  target = "alert"
	aWebhook target = "webhook endpoint"
	aTenant  target = "customer" // for operators: any but their own
	anImport target = "import"
	aRequest target = "data-subject request" // that is open; for operators: of any customer
	aBundle  target = "bundle"               // the request that it was made for

	aStayingTenant target = "customer that is not offboarded" // for operators: any but their own
	aLeavingTenant target = "customer whose offboarding another operator has begun"
	anOffboarding  target = "offboarding" // of any customer
)

// row says what becomes of one operation, by caller. "own" callers belong to the customer acme and so does the object; the two foreign callers
// belong to another customer. The statuses are written out by hand: they are what was promised, not what the contract happens to say.
type row struct {
	operation string
	object    target
	scope     principal.Scope // with which a key may; empty: no key may

	nobody, operator, admin, user, key, otherKey, foreignAdmin, foreignKey int
}

var matrix = []row{
	//                                                   nobody oper. admin user  key   other foreign foreign
	//                                                                            scope scopes admin  key
	{"getLiveness", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getReadiness", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getContractYAML", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getContractJSON", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getDocs", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getProblem", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getSigningKeys", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getSecurityContact", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getSetPasswordPage", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getForgotPasswordPage", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"getUnsubscribePage", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"unsubscribe", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"createSession", noObject, "", 201, 201, 201, 201, 201, 201, 201, 201},
	{"refreshSession", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"endCurrentSession", noObject, "", 401, 204, 204, 204, 403, 403, 204, 403},
	{"listMySessions", noObject, "", 401, 200, 200, 200, 403, 403, 200, 403},
	{"endMySession", aSession, "", 401, 204, 204, 204, 403, 403, 404, 403},
	{"listMyLogins", noObject, "", 401, 200, 200, 200, 403, 403, 200, 403},
	{"getMySecondFactor", noObject, "", 401, 200, 200, 200, 403, 403, 200, 403},
	{"enrolMySecondFactor", noObject, "", 401, 201, 201, 201, 403, 403, 201, 403},
	{"confirmMySecondFactor", noObject, "", 401, 200, 200, 200, 403, 403, 200, 403},
	{"replaceMyRecoveryCodes", noObject, "", 401, 200, 200, 200, 403, 403, 200, 403},
	{"removeMySecondFactor", noObject, "", 401, 204, 204, 204, 403, 403, 204, 403},
	{"requestPasswordReset", noObject, "", 202, 202, 202, 202, 202, 202, 202, 202},
	{"confirmPasswordReset", noObject, "", 204, 204, 204, 204, 204, 204, 204, 204},
	{"getMe", noObject, "", 401, 200, 200, 200, 403, 403, 200, 403},
	{"changeMyPassword", noObject, "", 401, 204, 204, 204, 403, 403, 204, 403},
	{"getMyAlerts", noObject, "", 401, 403, 200, 200, 403, 403, 200, 403},
	{"setMyAlerts", noObject, "", 401, 403, 200, 200, 403, 403, 200, 403},
	{"listUsers", noObject, principal.UsersRead, 401, 403, 200, 403, 200, 403, 200, 200},
	{"createUser", noObject, principal.UsersWrite, 401, 403, 201, 403, 201, 403, 201, 201},
	{"createUserImport", noObject, principal.UsersWrite, 401, 403, 201, 403, 201, 403, 201, 201},
	{"getUserImport", anImport, principal.UsersWrite, 401, 403, 200, 403, 200, 403, 404, 404},
	{"getUser", aUser, principal.UsersRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"updateUser", aUser, principal.UsersWrite, 401, 403, 200, 403, 200, 403, 404, 404},
	{"deleteUser", aUser, principal.UsersErase, 401, 403, 200, 403, 200, 403, 404, 404},
	{"getErasurePlan", aUser, principal.UsersRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"redactUser", aUser, principal.UsersErase, 401, 403, 200, 403, 200, 403, 404, 404},
	{"getUserAlerts", aUser, principal.UsersRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"setUserAlerts", aUser, principal.UsersWrite, 401, 403, 200, 403, 200, 403, 404, 404},
	{"listUserLogins", aUser, "", 401, 403, 200, 403, 403, 403, 404, 403},
	{"resetUserSecondFactor", aUser, "", 401, 403, 204, 403, 403, 403, 404, 403},
	{"getErasureReceipt", aReceipt, principal.UsersRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"listAuditEntries", noObject, principal.AuditRead, 401, 403, 200, 403, 200, 403, 200, 200},
	// The sample's actor is acme's: for the foreign key it is nobody, told in the row of an array.
	{"createAuditEntries", noObject, principal.AuditWrite, 401, 403, 403, 403, 200, 403, 403, 200},
	{"getAuditEntryProof", anEntry, principal.AuditRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"getLatestAuditCheckpoint", noObject, principal.AuditRead, 401, 403, 200, 403, 200, 403, 200, 200},
	{"getTrailKeys", noObject, "", 200, 200, 200, 200, 200, 200, 200, 200},
	{"listAPIKeys", noObject, "", 401, 403, 200, 403, 403, 403, 200, 403},
	{"createAPIKey", noObject, "", 401, 403, 201, 403, 403, 403, 201, 403},
	{"revokeAPIKey", anAPIKey, "", 401, 403, 204, 403, 403, 403, 404, 403},
	{"rotateAPIKey", anAPIKey, "", 401, 403, 201, 403, 403, 403, 404, 403},
	{"reportLeakedAPIKey", noObject, "", 204, 204, 204, 204, 204, 204, 204, 204},
	{"getCustomer", noObject, "", 401, 403, 200, 403, 403, 403, 200, 403},
	{"updateCustomer", noObject, "", 401, 403, 200, 403, 403, 403, 200, 403},
	{"listDataSubjectRequests", noObject, principal.RequestsRead, 401, 403, 200, 403, 200, 403, 200, 200},
	// The sample's person is acme's.
	{"createDataSubjectRequest", noObject, principal.RequestsWrite, 401, 403, 201, 403, 201, 403, 404, 404},
	{"getDataSubjectRequest", aRequest, principal.RequestsRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"withdrawDataSubjectRequest", aRequest, principal.RequestsWrite, 401, 403, 200, 403, 200, 403, 404, 404},
	{"collectDataSubjectRequestBundle", aBundle, principal.RequestsRead, 401, 403, 200, 403, 200, 403, 404, 404},
	{"listDataSubjectRequestsAsOperator", noObject, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"getDataSubjectRequestAsOperator", aRequest, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"acknowledgeDataSubjectRequest", aRequest, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"fulfilDataSubjectRequest", aRequest, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"rejectDataSubjectRequest", aRequest, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"listAlerts", noObject, principal.AlertsWrite, 401, 403, 200, 403, 200, 403, 200, 200},
	{"raiseAlert", noObject, principal.AlertsWrite, 401, 403, 202, 403, 202, 403, 202, 202},
	{"getAlert", anAlert, principal.AlertsWrite, 401, 403, 200, 403, 200, 403, 404, 404},
	{"listEvents", noObject, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 200, 200},
	{"listWebhookEndpoints", noObject, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 200, 200},
	{"createWebhookEndpoint", noObject, principal.WebhooksManage, 401, 403, 201, 403, 201, 403, 201, 201},
	{"getWebhookEndpoint", aWebhook, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 404, 404},
	{"updateWebhookEndpoint", aWebhook, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 404, 404},
	{"deleteWebhookEndpoint", aWebhook, principal.WebhooksManage, 401, 403, 204, 403, 204, 403, 404, 404},
	{"rotateWebhookEndpointSecret", aWebhook, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 404, 404},
	{"testWebhookEndpoint", aWebhook, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 404, 404},
	{"listWebhookDeliveries", aWebhook, principal.WebhooksManage, 401, 403, 200, 403, 200, 403, 404, 404},
	{"retryWebhookDelivery", aWebhook, principal.WebhooksManage, 401, 403, 202, 403, 202, 403, 404, 404},
	{"listCustomers", noObject, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"createCustomer", noObject, "", 401, 201, 403, 403, 403, 403, 403, 403},
	{"getCustomerAsOperator", aTenant, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"updateCustomerAsOperator", aTenant, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"beginOffboarding", aStayingTenant, "", 401, 201, 403, 403, 403, 403, 403, 403},
	{"getCustomerOffboarding", aLeavingTenant, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"approveOffboarding", aLeavingTenant, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"cancelOffboarding", aLeavingTenant, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"listOffboardings", noObject, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"getOffboarding", anOffboarding, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"getOwnOffboarding", noObject, "", 401, 403, 200, 403, 403, 403, 200, 403},
	{"setOffboardingRecipient", noObject, "", 401, 403, 200, 403, 403, 403, 200, 403},
	{"renewOffboardingBundle", noObject, "", 401, 403, 202, 403, 403, 403, 202, 403},
	{"collectOffboardingBundle", noObject, "", 401, 403, 200, 403, 403, 403, 200, 403},
	{"listBackups", noObject, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"listReplays", noObject, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"createBackup", noObject, "", 401, 202, 403, 403, 403, 403, 403, 403},
	{"listJobs", noObject, "", 401, 200, 403, 403, 403, 403, 403, 403},
	{"retryJob", noObject, "", 401, 202, 403, 403, 403, 403, 403, 403},
}

// TestEveryOperationAnswersEachCallerByItsRole goes through all operations, all callers and all objects. The order of refusals is always the
// same: who are you (401), may you do such a thing (403), is there such a thing (404). So a 403 tells nothing about what exists.
func TestEveryOperationAnswersEachCallerByItsRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rows := make(map[string]row, len(matrix))
	for _, row := range matrix {
		rows[row.operation] = row
	}
	for _, operation := range w.API.Operations() {
		row, ok := rows[operation.ID]
		delete(rows, operation.ID)
		if !ok {
			t.Errorf("%s has no row in the matrix: write down who may call it", operation.ID)
			continue
		}
		t.Run(operation.ID, func(t *testing.T) { w.tryAll(t, operation, row) })
	}
	for name := range rows {
		t.Errorf("the matrix has a row %s, which is no operation of the contract", name)
	}
}

func (w *world) tryAll(t *testing.T, operation *contract.Operation, row row) {
	right, others := []principal.Scope{row.scope}, slices.DeleteFunc(principal.Scopes(), func(s principal.Scope) bool { return s == row.scope })
	if row.scope == "" {
		right = principal.Scopes()
	}
	key, otherKey := w.key(t, w.acme, right), w.key(t, w.acme, others)
	person := func(of apptest.Customer, role principal.Role, standing apptest.Credential) apptest.Credential {
		if !changesTheCaller(operation.ID) {
			return standing
		}
		return w.SignIn(t, of.Slug, w.Person(t, of, role, fresh("signs-out")+"@"+of.Slug+".example"))
	}
	callers := []struct {
		name       string
		of         apptest.Customer
		credential apptest.Credential
		want       int
	}{
		{"nobody", w.acme, "", row.nobody},
		{"operator", w.fusions, person(w.fusions, principal.Operator, w.operator), row.operator},
		{"admin", w.acme, person(w.acme, principal.Administrator, w.admin), row.admin},
		{"user", w.acme, person(w.acme, principal.User, w.user), row.user},
		{"key", w.acme, key, row.key},
		{"key with all other scopes", w.acme, otherKey, row.otherKey},
		{"admin of another customer", w.other, person(w.other, principal.Administrator, w.otherAdmin), row.foreignAdmin},
		{"key of another customer", w.other, w.key(t, w.other, right), row.foreignKey},
	}
	for _, caller := range callers {
		what := operation.ID + " by " + caller.name
		options := []apptest.Option{}
		if caller.credential != "" {
			options = append(options, apptest.As(caller.credential))
		}
		w.prepare(t, operation.ID, caller.credential, caller.want)
		try := func(objectID string) apptest.Answer {
			path, sample := w.sample(t, operation.ID, objectID)
			return call(t, w.Service, operation.Method, path, append(options, sample...)...)
		}
		if row.object == noObject {
			if answer := try(""); answer.Status != caller.want {
				t.Errorf("%s: got %d, want %d: %s", what, answer.Status, caller.want, answer.Body)
			}
			continue
		}
		ofAcme, ofOther := w.objects(t, row.object, caller.of, caller.credential)
		acmes, others, none := try(ofAcme), try(ofOther), try(id.New[id.User]().String())
		if acmes.Status != caller.want {
			t.Errorf("%s on acme's %s: got %d, want %d: %s", what, row.object, acmes.Status, caller.want, acmes.Body)
		}
		// Who may not do such a thing at all hears so, whatever the object. Who may gets at the own customer's objects only.
		mine, hidden := acmes, others
		if caller.of.ID == w.other.ID {
			mine, hidden = others, acmes
		}
		absent := caller.want
		if absent < 300 {
			absent = http.StatusNotFound
		}
		if may := absent == http.StatusNotFound; may != (mine.Status < 300) {
			t.Errorf("%s on an own %s: got %d", what, row.object, mine.Status)
		}
		if hidden.Status != absent || none.Status != absent {
			t.Errorf("%s: got %d on another customer's %s and %d on none, want %d for both", what, hidden.Status, row.object, none.Status, absent)
		}
		if a, b := anonymous(t, hidden), anonymous(t, none); a != b {
			t.Errorf("%s: another customer's %s can be told from none:\n%s\n%s", what, row.object, a, b)
		}
		// What is no id at all is answered like an id of nothing, and after the question of the role.
		if malformed := try("48151623"); malformed.Status != absent {
			t.Errorf("%s on a path that is no id: got %d, want %d", what, malformed.Status, absent)
		}
	}
}

// changesTheCaller tells whether an operation takes from the caller what the other operations are called with.
func changesTheCaller(operation string) bool {
	return slices.Contains([]string{
		"endCurrentSession", "changeMyPassword", "confirmMySecondFactor", "replaceMyRecoveryCodes", "removeMySecondFactor",
	}, operation)
}

// prepare sets up the second factor that a caller needs who may call the operation, and remembers the code for the sample.
func (w *world) prepare(t *testing.T, operation string, caller apptest.Credential, want int) {
	t.Helper()
	if !strings.HasSuffix(operation, "MySecondFactor") && operation != "replaceMyRecoveryCodes" || !changesTheCaller(operation) || want >= 300 {
		return
	}
	secret := call(t, w.Service, "POST", "/v1/me/second-factor", apptest.As(caller), apptest.JSON(members{"current_password": apptest.Password})).
		Want(t, 201).Text(t, "secret")
	w.oneTimeCode = codeOf(t, w.Service, secret)
	if operation == "confirmMySecondFactor" {
		return
	}
	var made struct {
		RecoveryCodes []string `json:"recovery_codes"`
	}
	call(t, w.Service, "POST", "/v1/me/second-factor/confirmation", apptest.As(caller), apptest.JSON(members{"one_time_code": w.oneTimeCode})).
		Want(t, 200).Into(t, &made)
	w.oneTimeCode = made.RecoveryCodes[0] // the other one was used
}

// codeOf is what an authenticator with the secret shows now.
func codeOf(t testing.TB, s *apptest.Service, secret string) string {
	t.Helper()
	code, err := totp.Code(sensitive.New(secret), s.Database.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// objects makes one thing that is acme's and one that is another's. A session belongs to a person and not to a customer: here acme's is the caller's,
// and the other one is somebody else's at the same customer; for callers of the other customer it is the other way round. To operators every customer
// is open but their own.
func (w *world) objects(t *testing.T, kind target, of apptest.Customer, caller apptest.Credential) (acmes, others string) {
	t.Helper()
	switch kind {
	case aTenant:
		return w.acme.ID.String(), w.fusions.ID.String()
	case aStayingTenant, aLeavingTenant:
		return w.make(t, kind, w.acme), w.fusions.ID.String()
	case anOffboarding:
		return w.make(t, kind, w.acme), id.New[id.Offboarding]().String()
	case aSession:
		self, colleague := of.Admin, w.acme.User
		if caller == w.user {
			self, colleague = w.acme.User, w.acme.Admin
		}
		own, theirs := w.sessionOf(t, of.Slug, self), w.sessionOf(t, "acme", colleague)
		if of.ID == w.other.ID {
			return theirs, own
		}
		return own, theirs
	case aRequest:
		if of.ID == w.fusions.ID {
			return w.make(t, kind, w.acme), id.New[id.DataRequest]().String() // no request of a customer is another's to an operator
		}
	case noObject, aUser, anAPIKey, aReceipt, anEntry, anAlert, anImport, aBundle, aWebhook:
	}
	return w.make(t, kind, w.acme), w.make(t, kind, w.other)
}

// sessionOf signs somebody in and returns the id of the session.
func (w *world) sessionOf(t *testing.T, slug string, person apptest.Person) string {
	t.Helper()
	var sessions struct {
		Data []struct {
			ID      string
			Current bool
		}
	}
	call(t, w.Service, "GET", "/v1/me/sessions", apptest.As(w.SignIn(t, slug, person))).Want(t, 200).Into(t, &sessions)
	for _, one := range sessions.Data {
		if one.Current {
			return one.ID
		}
	}
	t.Fatalf("nobody's session is the current one: %+v", sessions)
	return ""
}

// anonymous is a problem without what differs from request to request.
func anonymous(t *testing.T, answer apptest.Answer) string {
	t.Helper()
	var members map[string]any
	answer.Into(t, &members)
	delete(members, "request_id")
	delete(members, "instance")
	header := answer.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id"} {
		header.Del(name)
	}
	text, err := json.Marshal([]any{answer.Status, header, members})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheRoleIsJudgedBeforeTheRequest: somebody who may not do a thing learns nothing about how it would be done.
func TestTheRoleIsJudgedBeforeTheRequest(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	key := w.key(t, w.acme, []principal.Scope{principal.AnalyticsWrite})
	for _, operation := range w.API.Operations() {
		if operation.Public {
			continue
		}
		path, _ := w.sample(t, operation.ID, "no-id")
		nonsense := []apptest.Option{apptest.Raw("text/plain", "nonsense"), apptest.Header("Accept", "image/png")}
		call(t, w.Service, operation.Method, path+"?nonsense=1", nonsense...).WantProblem(t, 401, "unauthorized")
		answer := call(t, w.Service, operation.Method, path+"?nonsense=1", append(nonsense, apptest.As(key))...).Want(t, 403)
		challenge := answer.Header.Get("WWW-Authenticate")
		if wantScope := operation.Scope != ""; wantScope != strings.Contains(challenge, `scope="`+operation.Scope+`"`) {
			t.Errorf("%s: 403 with the challenge %q, want it to name the scope %q", operation.ID, challenge, operation.Scope)
		}
	}
}

// world is a service with the operators, the customer acme and another customer, and somebody of each kind signed in.
type world struct {
	*apptest.Service
	fusions, acme, other              apptest.Customer
	operator, admin, user, otherAdmin apptest.Credential
	colleague                         principal.Principal // another operator
	refreshToken                      string              // of a session of acme's user, always the last one
	oneTimeCode                       string              // of whoever is about to call, where a right one is needed
	deliveries                        map[string]string   // one of each webhook endpoint that was made
}

// newWorld makes one on a service of its own.
func newWorld(t *testing.T) *world {
	t.Helper()
	return worldOn(t, apptest.StartWith(t, apptest.WithBackups(t)), "acme", "umbrella")
}

// newSharedWorld makes one on the shared service.
func newSharedWorld(t *testing.T) *world {
	t.Helper()
	return worldOn(t, apptest.Shared(t), apptest.Unique("acme"), apptest.Unique("umbrella"))
}

func worldOn(t *testing.T, service *apptest.Service, acme, other string) *world {
	t.Helper()
	w := &world{
		Service: service, oneTimeCode: "287082", deliveries: make(map[string]string),
		fusions: apptest.Customer{Slug: "fusions"},
	}
	w.fusions.Admin = w.Operators(t)
	w.operator = w.SignIn(t, "fusions", w.fusions.Admin)
	w.Superuser(t, "select id from customers where slug = 'fusions'", &w.fusions.ID)
	colleague := w.Person(t, w.fusions, principal.Operator, apptest.Unique("second-operator")+"@fusions.example")
	w.colleague = principal.Principal{Customer: w.fusions.ID, User: colleague.ID, Role: principal.Operator}
	w.acme, w.other = w.Customer(t, acme), w.Customer(t, other)
	w.admin, w.user = w.SignIn(t, acme, w.acme.Admin), w.SignIn(t, acme, w.acme.User)
	w.otherAdmin = w.SignIn(t, other, w.other.Admin)
	return w
}

// Superuser asks the database for one value, past row security.
func (w *world) Superuser(t *testing.T, query string, into any, arguments ...any) {
	t.Helper()
	peek(t, w.Service, query, into, arguments...)
}

func peek(t *testing.T, s *apptest.Service, query string, into any, arguments ...any) {
	t.Helper()
	s.Database.Peek(t, query, into, arguments...)
}

// key makes an API key with these scopes.
func (w *world) key(t *testing.T, of apptest.Customer, scopes []principal.Scope) apptest.Credential {
	t.Helper()
	return keyOf(t, w.Service, of, apikey.New{Name: "a key", Scopes: scopes}).credential
}

type madeKey struct {
	id         string
	credential apptest.Credential
}

func keyOf(t *testing.T, s *apptest.Service, of apptest.Customer, in apikey.New) (made madeKey) {
	t.Helper()
	err := s.DB.InCustomer(t.Context(), of.ID, func(tx *postgres.Tx) error {
		key, err := apikey.CreateTx(tx, principal.Principal{Customer: of.ID}, in)
		made = madeKey{key.ID.String(), apptest.Credential(key.Secret.Reveal())}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// make makes something of a customer and returns its id.
func (w *world) make(t *testing.T, kind target, of apptest.Customer) string {
	t.Helper()
	switch kind {
	case aUser:
		return w.Person(t, of, principal.User, fresh("object")+"@"+of.Slug+".example").ID.String()
	case anAPIKey:
		return keyOf(t, w.Service, of, apikey.New{Name: "object", Scopes: principal.Scopes()}).id
	case aReceipt:
		person := w.Person(t, of, principal.User, fresh("object")+"@"+of.Slug+".example")
		receipt, err := w.Users.Redact(t.Context(), principal.Principal{Customer: of.ID, Role: principal.Administrator}, person.ID, nil, anyVersion, nil)
		if err != nil {
			t.Fatal(err)
		}
		return receipt.ID.String()
	case anEntry:
		entry := recorded(t, w.Service, of, nil)
		w.Seal(t)
		return entry
	case aWebhook:
		endpoint, delivery := webhookOf(t, w.Service, of, "http://127.0.0.1:9/hook")
		w.deliveries[endpoint] = delivery
		return endpoint
	case aSession:
		return w.sessionOf(t, of.Slug, of.Admin)
	case aTenant:
		return of.ID.String()
	case aStayingTenant:
		return w.Customer(t, fresh("staying")).ID.String()
	case aLeavingTenant, anOffboarding:
		leaving := w.Customer(t, fresh("leaving"))
		begun, err := w.Offboardings.Begin(t.Context(), w.colleague, leaving.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if kind == aLeavingTenant {
			return leaving.ID.String()
		}
		return begun.ID.String()
	case aRequest, aBundle:
		asked := subjectrequest.New{UserID: w.Person(t, of, principal.User, fresh("object")+"@"+of.Slug+".example").ID, Kind: subjectrequest.Access}
		filed, err := w.Requests.File(t.Context(), principal.Principal{Customer: of.ID, Role: principal.Administrator}, asked, nil)
		if err == nil && kind == aBundle {
			operator := principal.Principal{Customer: w.fusions.ID, User: w.fusions.Admin.ID, Role: principal.Operator}
			_, err = w.Requests.Fulfil(t.Context(), operator, filed.ID, anyVersion, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return filed.ID.String()
	case anImport:
		return call(t, w.Service, "POST", "/v1/user-imports?dry_run=true", apptest.As(of.APIKey), csvFile("Noor,Haddad,noor@"+of.Slug+".example")).
			Want(t, 201).Text(t, "id")
	case anAlert:
		alert, err := w.Alerts.Raise(t.Context(), principal.Principal{Customer: of.ID}, alert.New{Severity: alert.Critical, Subject: "It broke", Body: "Twice."}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return alert.ID.String()
	case noObject:
	}
	return ""
}

// sample is a request that is carried out when a caller who may makes it. The id stands where the path has one.
func (w *world) sample(t *testing.T, operation, objectID string) (path string, options []apptest.Option) {
	t.Helper()
	with := func(path string, body any) (string, []apptest.Option) {
		return path, []apptest.Option{apptest.JSON(body)}
	}
	switch operation {
	case "getLiveness":
		return "/livez", nil
	case "getReadiness":
		return "/readyz", nil
	case "getContractYAML":
		return "/openapi.yaml", nil
	case "getContractJSON":
		return "/openapi.json", nil
	case "getDocs":
		return "/docs", nil
	case "getProblem":
		return "/problems/user-redacted", nil
	case "getSigningKeys":
		return "/.well-known/jwks.json", nil
	case "getSecurityContact":
		return "/.well-known/security.txt", nil
	case "getSetPasswordPage":
		return "/set-password", nil
	case "getForgotPasswordPage":
		return "/forgot-password", nil
	case "getUnsubscribePage", "unsubscribe":
		return unsubscribing(t, w.acme.ID, w.acme.User.ID), nil
	case "listAlerts":
		return "/v1/alerts", nil
	case "raiseAlert":
		return with("/v1/alerts", members{"severity": "critical", "subject": "The nightly export failed", "body": "12 products have no price.", "dedupe_key": "export/web"})
	case "getAlert":
		return "/v1/alerts/" + objectID, nil
	case "createSession":
		return with("/v1/sessions", members{"customer": "acme", "email": w.acme.User.Email, "password": apptest.Password})
	case "refreshSession":
		return with("/v1/sessions/refresh", members{"refresh_token": w.nextRefreshToken(t)})
	case "endCurrentSession":
		return "/v1/sessions/current", nil
	case "listMySessions":
		return "/v1/me/sessions", nil
	case "endMySession":
		return "/v1/me/sessions/" + objectID, nil
	case "listMyLogins":
		return "/v1/me/logins", nil
	case "getMySecondFactor":
		return "/v1/me/second-factor", nil
	case "enrolMySecondFactor":
		return with("/v1/me/second-factor", members{"current_password": apptest.Password})
	case "confirmMySecondFactor":
		return with("/v1/me/second-factor/confirmation", members{"one_time_code": w.oneTimeCode})
	case "replaceMyRecoveryCodes":
		return with("/v1/me/recovery-codes", members{"one_time_code": w.oneTimeCode})
	case "removeMySecondFactor":
		return "/v1/me/second-factor", []apptest.Option{apptest.Header("One-Time-Code", w.oneTimeCode)}
	case "requestPasswordReset":
		return with("/v1/password-resets", members{"customer": "acme", "email": w.acme.User.Email})
	case "confirmPasswordReset":
		person := w.Person(t, w.acme, principal.User, fresh("forgetful")+"@acme.example")
		return with("/v1/password-resets/confirm", members{"token": forgedLink(t, w.Service, w.acme.ID, person.ID), "new_password": "violet umbrellas hum at seven dusks"})
	case "getMe":
		return "/v1/me", nil
	case "changeMyPassword":
		return with("/v1/me/password", members{"current_password": apptest.Password, "new_password": "violet umbrellas hum at seven dusks"})
	case "getMyAlerts":
		return "/v1/me/alerts", nil
	case "setMyAlerts":
		return with("/v1/me/alerts", members{"opted_in": false})
	case "listUsers":
		return "/v1/users", nil
	case "createUser":
		return with("/v1/users", members{"first_name": "Noor", "last_name": "Haddad", "email": fresh("noor") + "@acme.example", "role": "user"})
	case "createUserImport":
		return "/v1/user-imports", []apptest.Option{csvFile("Noor,Haddad," + fresh("noor") + "@acme.example")}
	case "getUserImport":
		return "/v1/user-imports/" + objectID, nil
	case "getUser", "deleteUser":
		return "/v1/users/" + objectID, nil
	case "updateUser":
		return with("/v1/users/"+objectID, members{"last_name": "Haddad-Lind"})
	case "getErasurePlan":
		return "/v1/users/" + objectID + "/erasure-plan", nil
	case "redactUser":
		return with("/v1/users/"+objectID+"/redaction", members{"reason": "left_employment"})
	case "getUserAlerts":
		return "/v1/users/" + objectID + "/alerts", nil
	case "setUserAlerts":
		return with("/v1/users/"+objectID+"/alerts", members{"opted_in": false})
	case "listUserLogins":
		return "/v1/users/" + objectID + "/logins", nil
	case "resetUserSecondFactor":
		return "/v1/users/" + objectID + "/second-factor", nil
	case "getErasureReceipt":
		return "/v1/erasure-receipts/" + objectID, nil
	case "listAuditEntries":
		return "/v1/audit-entries", nil
	case "createAuditEntries":
		return with("/v1/audit-entries", []any{entryBy(w.acme.User.ID, nil)})
	case "getAuditEntryProof":
		return "/v1/audit-entries/" + objectID + "/proof", nil
	case "getLatestAuditCheckpoint":
		return "/v1/audit-checkpoints/latest", nil
	case "getTrailKeys":
		return "/.well-known/audit-trail-keys.json", nil
	case "listAPIKeys":
		return "/v1/api-keys", nil
	case "createAPIKey":
		return with("/v1/api-keys", members{"name": "PIM production", "scopes": []string{"users:read"}})
	case "revokeAPIKey":
		return "/v1/api-keys/" + objectID, nil
	case "rotateAPIKey":
		return with("/v1/api-keys/"+objectID+"/rotation", members{"overlap_seconds": 3600})
	case "reportLeakedAPIKey":
		return with("/v1/api-keys/leaks", members{"api_key": w.key(t, w.acme, principal.Scopes())})
	case "listDataSubjectRequests":
		return "/v1/data-subject-requests", nil
	case "createDataSubjectRequest":
		person := w.Person(t, w.acme, principal.User, fresh("asking")+"@acme.example")
		return with("/v1/data-subject-requests", members{"kind": "objection", "user_id": person.ID.String()})
	case "getDataSubjectRequest":
		return "/v1/data-subject-requests/" + objectID, nil
	case "withdrawDataSubjectRequest":
		return "/v1/data-subject-requests/" + objectID + "/withdrawal", nil
	case "collectDataSubjectRequestBundle":
		return "/v1/data-subject-requests/" + objectID + "/bundle", nil
	case "listDataSubjectRequestsAsOperator":
		return "/v1/operator/data-subject-requests", nil
	case "getDataSubjectRequestAsOperator":
		return "/v1/operator/data-subject-requests/" + objectID, nil
	case "acknowledgeDataSubjectRequest":
		return "/v1/operator/data-subject-requests/" + objectID + "/acknowledgement", nil
	case "fulfilDataSubjectRequest":
		return "/v1/operator/data-subject-requests/" + objectID + "/fulfilment", nil
	case "rejectDataSubjectRequest":
		return with("/v1/operator/data-subject-requests/"+objectID+"/rejection", members{"reason": "identity_not_verified"})
	case "listEvents":
		return "/v1/events", nil
	case "listWebhookEndpoints":
		return "/v1/webhook-endpoints", nil
	case "createWebhookEndpoint":
		w.makeRoom(t)
		return with("/v1/webhook-endpoints", members{"url": "https://pim.acme.example/webhooks/steward"})
	case "getWebhookEndpoint", "deleteWebhookEndpoint":
		return "/v1/webhook-endpoints/" + objectID, nil
	case "updateWebhookEndpoint":
		return with("/v1/webhook-endpoints/"+objectID, members{"description": "PIM production"})
	case "rotateWebhookEndpointSecret":
		return with("/v1/webhook-endpoints/"+objectID+"/rotation", members{"overlap_seconds": 3600})
	case "testWebhookEndpoint":
		return "/v1/webhook-endpoints/" + objectID + "/test", nil
	case "listWebhookDeliveries":
		return "/v1/webhook-endpoints/" + objectID + "/deliveries", nil
	case "retryWebhookDelivery":
		delivery, known := w.deliveries[objectID]
		if !known {
			delivery = id.New[id.Entry]().String()
		}
		return "/v1/webhook-endpoints/" + objectID + "/deliveries/" + delivery + "/retry", nil
	case "listCustomers":
		return "/v1/operator/customers", nil
	case "createCustomer":
		return with("/v1/operator/customers", members{"slug": fresh("initech"), "name": "Initech",
			"administrator": members{"first_name": "Mina", "last_name": "Rao", "email": "mina.rao@initech.example"}})
	case "getCustomerAsOperator":
		return "/v1/operator/customers/" + objectID, nil
	case "updateCustomerAsOperator":
		return with("/v1/operator/customers/"+objectID, members{"name": "Initech Ltd"})
	case "beginOffboarding", "getCustomerOffboarding":
		return "/v1/operator/customers/" + objectID + "/offboarding", nil
	case "approveOffboarding":
		return "/v1/operator/customers/" + objectID + "/offboarding/approval", nil
	case "cancelOffboarding":
		return "/v1/operator/customers/" + objectID + "/offboarding/cancellation", nil
	case "listOffboardings":
		return "/v1/operator/offboardings", nil
	case "getOffboarding":
		return "/v1/operator/offboardings/" + objectID, nil
	case "getOwnOffboarding":
		w.leave(t)
		return "/v1/customer/offboarding", nil
	case "setOffboardingRecipient":
		w.leave(t)
		return with("/v1/customer/offboarding/recipient", members{"recipient": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"})
	case "renewOffboardingBundle", "collectOffboardingBundle":
		w.leave(t)
		return "/v1/customer/offboarding/bundle", nil
	case "listBackups", "createBackup":
		return "/v1/operator/backups", nil
	case "listReplays":
		return "/v1/operator/replays", nil
	case "listJobs":
		return "/v1/operator/jobs", nil
	case "retryJob":
		return "/v1/operator/jobs/" + deadJob(t, w.Service, w.acme.ID) + "/retry", nil
	case "getCustomer":
		return "/v1/customer", nil
	case "updateCustomer":
		return with("/v1/customer", members{"guidance_text": "Ask the service desk on extension 4100."})
	}
	t.Fatalf("%s has no sample: write down a request that is carried out", operation)
	return "", nil
}

// leave has the offboarding of both customers wait for its end, if it does not do so yet.
func (w *world) leave(t *testing.T) {
	t.Helper()
	for _, of := range []apptest.Customer{w.acme, w.other} {
		if _, err := w.Offboardings.Newest(t.Context(), of.ID); err == nil {
			continue
		}
		waiting(t, w.Service, of, w.colleague, principal.Principal{Customer: w.fusions.ID, User: w.fusions.Admin.ID, Role: principal.Operator})
	}
}

// makeRoom deletes the webhook endpoints that there are, of which a customer may have only so many.
func (w *world) makeRoom(t *testing.T) {
	t.Helper()
	steps.Execute(t, w.Database.Superuser(t), "update webhook_endpoints set status = 'deleted', paused_reason = null, paused_at = null, due_at = null")
}

// nextRefreshToken opens a session of which nobody else has the refresh token.
func (w *world) nextRefreshToken(t *testing.T) string {
	t.Helper()
	if w.refreshToken == "" {
		path, sample := w.sample(t, "createSession", "")
		w.refreshToken = call(t, w.Service, "POST", path, sample...).Want(t, 201).Text(t, "refresh_token")
	}
	// Every exchange gives the next token; the one before it is what the sample may use up.
	answer := call(t, w.Service, "POST", "/v1/sessions/refresh", apptest.JSON(members{"refresh_token": w.refreshToken})).Want(t, 200)
	spare := answer.Text(t, "refresh_token")
	w.refreshToken = ""
	return spare
}

// forgedLink makes a mailed link of a person as if the mail had come, and returns what it carries.
func forgedLink(t testing.TB, s *apptest.Service, of id.Customer, person id.User) string {
	t.Helper()
	text, hash := token.NewLink(of, person)
	now := s.Database.Clock.Now()
	_, err := s.Database.Superuser(t).Exec(t.Context(), `
		insert into password_links (customer_id, hash, user_id, purpose, created_at, expires_at, links_since)
		select customer_id, $1, id, 'password_reset', $2, $3, links_since from users where id = $4`, hash, now, now.Add(time.Hour), person.String())
	if err != nil {
		t.Fatal(err)
	}
	return text.Reveal()
}

// unsubscribing is where the link at the foot of an alert leads to.
func unsubscribing(t testing.TB, of id.Customer, person id.User) string {
	t.Helper()
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	token := slices.Concat(of.UUID[:], person.UUID[:], box.MAC("alert unsubscribe", of.UUID[:], person.UUID[:])[:16])
	return "/unsubscribe/" + base64.RawURLEncoding.EncodeToString(token)
}

// members is a JSON object.
type members = map[string]any

// entryBy is an audit entry by an actor; the changes replace members, and nil takes one away.
func entryBy(actor id.User, changes members) members {
	entry := members{
		"actor_user_id": actor.String(), "action": "product.updated", "target": members{"type": "product", "id": "48151623"},
		"occurred_at": "2026-02-28T09:30:00Z",
	}
	maps.Copy(entry, changes)
	maps.DeleteFunc(entry, func(_ string, value any) bool { return value == nil })
	return entry
}

// fresh is a word that no other call returns.
func fresh(word string) string { return apptest.Unique(word) }

var sane = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// call sends a request, holds the answer against the contract, and against what is true of every answer whatever was asked.
func call(t testing.TB, s *apptest.Service, method, path string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	answer := s.Call(t, method, path, options...)
	checkAlways(t, method, path, answer)
	return answer
}

func checkAlways(t testing.TB, method, path string, answer apptest.Answer) {
	t.Helper()
	header := answer.Header
	complain := func(format string, arguments ...any) {
		t.Errorf("%s %s: %d: %s\n%v\n%s", method, path, answer.Status, fmt.Sprintf(format, arguments...), header, answer.Body)
	}
	signsInOrOut := answer.Status == 201 && method == "POST" && path == "/v1/sessions" || answer.Status == 204 && method == "DELETE" && path == "/v1/sessions/current"
	if cookies := header.Values("Set-Cookie"); len(cookies) > 1 || len(cookies) == 1 && !signsInOrOut {
		complain("sets a cookie")
	}
	if !sane.MatchString(header.Get("X-Request-Id")) {
		complain("has no request id")
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if header.Get(name) != want {
			complain("%s is %q, want %q", name, header.Get(name), want)
		}
	}
	if policy := header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		complain("the content security policy %q lets through by default", policy)
	}
	if strings.HasPrefix(path, "/v1/") && header.Get("Cache-Control") != "no-store" {
		complain("may be kept by a cache")
	}
	if answer.Status < 400 || method == http.MethodHead {
		return
	}
	if answer.Status == 404 && strings.HasPrefix(path, "/unsubscribe/") && strings.HasPrefix(header.Get("Content-Type"), "text/html") {
		return // who followed the link is a person and is told so in a page
	}
	var problem struct {
		Type      string           `json:"type"`
		Title     string           `json:"title"`
		Status    int              `json:"status"`
		Detail    string           `json:"detail"`
		Instance  string           `json:"instance"`
		RequestID string           `json:"request_id"`
		Errors    []map[string]any `json:"errors"`
	}
	answer.Into(t, &problem)
	switch {
	case header.Get("Content-Type") != "application/problem+json":
		complain("a problem comes as %s", header.Get("Content-Type"))
	case problem.Status != answer.Status, problem.RequestID != header.Get("X-Request-Id"):
		complain("a problem tells another status or request id than the answer")
	case !strings.HasPrefix(problem.Type, "/problems/"), problem.Title == "", problem.Detail == "", !strings.HasPrefix(problem.Instance, "/"):
		complain("a problem lacks a member")
	case answer.Status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), `Bearer realm="steward"`):
		complain("a 401 without a challenge")
	case (answer.Status == 503 || answer.Status == 429) && header.Get("Retry-After") == "":
		complain("a problem that does not say when to try again")
	}
}

// anyVersion is met by every version of a user.
var anyVersion version.Condition
