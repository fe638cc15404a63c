package passwordlink

import "testing"

func TestPages(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"":                                       "https://steward.example/set-password#token=T",
		"{public_url}/p":                         "https://steward.example/p#token=T",
		"https://{customer}.example/set":         "https://acme.example/set#token=T",
		"https://app.example/set?of={customer}":  "https://app.example/set?of=acme#token=T",
		"https://app.example/#set":               "",
		"https://app.example/{user}":             "",
		"https://user:secret@app.example/":       "",
		"/set-password":                          "",
		"javascript:alert(1)":                    "",
		"ftp://app.example/{customer}/passwords": "",
	} {
		page, err := ParsePage(template, "https://steward.example/")
		switch {
		case want == "" && err == nil:
			t.Errorf("%s was taken", template)
		case want != "" && err != nil:
			t.Errorf("%s: %v", template, err)
		case want != "" && page.link("acme", "T") != want:
			t.Errorf("%s gives %s", template, page.link("acme", "T"))
		}
	}
}
