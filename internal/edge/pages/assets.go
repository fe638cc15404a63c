package pages

import (
	"embed"
	"fmt"
	"net/http"
	"path"
	"strings"
)

// assetRoot is the path below which all pages find their files: one route serves them.
const assetRoot = "/docs/"

const (
	forEver   = "public, max-age=31536000, immutable"
	askBefore = "public, no-cache"
)

//go:embed assets
var assetFiles embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

// loadAssets builds a document of every file that pages refer to, by name. assets/README names the
// sources of third-party files.
func loadAssets() (map[string]*document, error) {
	const script, style, text = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "text/plain; charset=utf-8"
	documents := map[string]*document{}
	for name, contentType := range map[string]string{
		"steward.css":                      style,
		"docs.css":                         style,
		"docs.js":                          script,
		"passwords.js":                     script,
		"icon.svg":                         "image/svg+xml",
		"swagger-ui-bundle.js":             script,
		"swagger-ui.css":                   style,
		"swagger-ui.LICENSE.txt":           text,
		"swagger-ui.NOTICE.txt":            text,
		"swagger-ui-bundle.js.LICENSE.txt": text,
	} {
		if packed, err := assetFiles.ReadFile("assets/" + name + ".gz"); err == nil {
			documents[name] = newPackedDocument(contentType, forEver, packed)
			continue
		}
		plain, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			return nil, fmt.Errorf("pages: read a file: %w", err)
		}
		documents[name] = newDocument(contentType, forEver, plain)
	}
	return documents, nil
}

// assetPath returns the path of a file. It contains the digest of the content, so what it leads to
// never changes and can be cached for good.
func (p *Pages) assetPath(name string) (string, error) {
	asset, ok := p.assets[name]
	if !ok {
		return "", fmt.Errorf("there is no file %q", name)
	}
	return assetRoot + asset.version + "/" + name, nil
}

// serveAsset serves a file by its path below assetRoot. During a roll-out, a page of one replica
// may ask another for a file with another digest: it gets the file as it is here rather than
// nothing, but may not cache it.
func (p *Pages) serveAsset(w http.ResponseWriter, r *http.Request, below string) {
	version, name := path.Split(below)
	asset, ok := p.assets[name]
	switch {
	case !ok || strings.Count(below, "/") > 1:
		w.Header().Set("Content-Security-Policy", ContentSecurityPolicy)
		w.Header().Set("Content-Type", htmlType)
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotFound)
		if r.Method != http.MethodHead {
			_, _ = w.Write(p.lost)
		}
	case version == asset.version+"/":
		asset.serve(w, r, asset.cacheControl)
	default:
		asset.serve(w, r, askBefore)
	}
}
