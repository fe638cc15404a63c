package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/edge/pages"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/integration/alert"
)

// pagesTag is the contract's tag of the pages for people, which are routed here rather than by
// generated code.
const pagesTag = "pages"

func newPages(checked *contract.Contract, publicURL string) (*pages.Pages, error) {
	older, err := checked.Rendering30()
	if err != nil {
		return nil, err
	}
	return pages.New(
		pages.Settings{
			Contract:       checked.Source(),
			ContractJSON:   checked.JSON(),
			ContractJSON30: older,
			PublicURL:      publicURL,
			StatusOf:       statusOf,
		},
	)
}

func (s *Server) servePages() {
	docs := echo.WrapHandler(s.pages.Docs())
	s.echo.GET("/set-password", echo.WrapHandler(s.pages.SetPassword()))
	s.echo.GET("/forgot-password", echo.WrapHandler(s.pages.ForgotPassword()))
	s.echo.GET("/unsubscribe/:token", func(c echo.Context) error {
		found, good, err := s.features.Alerts.Subscription(c.Request().Context(), c.Param("token"))
		return s.unsubscribePage(c, found, good, err)
	})
	s.echo.POST("/unsubscribe/:token", func(c echo.Context) error {
		found, good, err := s.features.Alerts.Unsubscribe(c.Request().Context(), c.Param("token"))
		return s.unsubscribePage(c, found, good, err)
	})
	s.echo.GET("/", echo.WrapHandler(s.pages.Home()))
	s.echo.GET("/docs", docs)
	s.echo.GET("/docs/*", docs)
	s.echo.GET("/openapi.yaml", echo.WrapHandler(s.pages.ContractYAML()))
	s.echo.GET("/openapi.json", func(c echo.Context) error {
		s.pages.ContractJSON(c.QueryParam("version")).ServeHTTP(c.Response(), c.Request())
		return nil
	})
	s.echo.GET("/problems", func(c echo.Context) error { return page200(c, s.pages.Problems()) })
	s.echo.GET("/problems/:slug", func(c echo.Context) error {
		content, ok := s.pages.Problem(c.Param("slug"))
		if !ok {
			return fault.New(fault.ResourceNotFound, "There is no problem of that name.")
		}
		return page200(c, content)
	})
	s.echo.GET("/.well-known/security.txt", func(c echo.Context) error {
		return c.Blob(http.StatusOK, "text/plain; charset=utf-8", s.pages.SecurityTxt(s.db.Now()))
	})
}

// page200 renders one of our own pages, which needs our style sheet only.
func page200(c echo.Context, content []byte) error {
	c.Response().Header().Set("Content-Security-Policy", pages.ContentSecurityPolicy)
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return c.HTMLBlob(http.StatusOK, content)
}

// unsubscribePage renders the page behind the unsubscribe link of an alert. Every invalid link gets
// the same response, whatever is wrong with it.
func (s *Server) unsubscribePage(c echo.Context, found alert.Subscription, good bool, err error) error {
	if err != nil {
		return err
	}
	status, content := http.StatusNotFound, s.pages.UnsubscribeLost()
	if good {
		status = http.StatusOK
		if content, err = s.pages.Unsubscribe(found.CustomerName, found.OptedIn); err != nil {
			return err
		}
	}
	c.Response().Header().Set("Content-Security-Policy", pages.SendingPolicy)
	return c.HTMLBlob(status, content)
}
