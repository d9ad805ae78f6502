package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// One period of what /stream sends: byte i of a stream is i modulo this prime, so that a shift or a loss is seen.
const period = 251

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{.}}</title></head>
<body><h1>{{.}}</h1><p>A tiny workspace.</p></body>
</html>
`))

// page has the Content-Security-Policy in `policy`, if there is one.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if policy := r.URL.Query().Get("policy"); policy != "" {
		w.Header().Set("Content-Security-Policy", policy)
	}
	_ = page.Execute(w, s.host)
}

func (s *server) told(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]int64{
		"requests":   s.counters.requests.Load(),
		"open":       s.counters.open.Load(),
		"aborted":    s.counters.aborted.Load(),
		"websockets": s.counters.websockets.Load(),
	})
}

// echo tells the request as it arrived, its body by length and hash.
func echo(w http.ResponseWriter, r *http.Request) {
	digest := sha256.New()
	length, err := io.Copy(digest, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"method":            r.Method,
		"target":            r.RequestURI,
		"path":              r.URL.EscapedPath(),
		"query":             r.URL.RawQuery,
		"protocol":          r.Proto,
		"host":              r.Host,
		"headers":           r.Header,
		"trailers":          r.Trailer,
		"transfer_encoding": r.TransferEncoding,
		"remote":            r.RemoteAddr,
		"length":            length,
		"sha256":            hex.EncodeToString(digest.Sum(nil)),
	})
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value)
}

// stream sends `bytes` bytes in pieces of `piece`, with `pause` milliseconds between them; chunked, unless `length` is given.
func stream(w http.ResponseWriter, r *http.Request) {
	left, piece, wait := number(r, "bytes", 0), number(r, "piece", 64<<10), number(r, "pause", 0)
	if left < 0 || piece < 1 || piece > 1<<20 || wait < 0 {
		http.Error(w, "bytes, piece (1 to 1 MiB) and pause must be whole numbers", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Has("length") {
		w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
	}
	pattern := make([]byte, piece+period)
	for i := range pattern {
		pattern[i] = byte(i % period)
	}
	control := http.NewResponseController(w)
	for at := int64(0); left > 0; {
		size := min(left, piece)
		if _, err := w.Write(pattern[at%period : at%period+size]); err != nil {
			return
		}
		at, left = at+size, left-size
		// What is sent must be seen before the next piece, not when a buffer is full.
		if control.Flush() != nil || (wait > 0 && left > 0 && !pause(r.Context(), time.Duration(wait)*time.Millisecond)) {
			return
		}
	}
}

func slow(w http.ResponseWriter, r *http.Request) {
	ms := number(r, "ms", 1000)
	if ms < 0 {
		http.Error(w, "ms must be a whole number", http.StatusBadRequest)
		return
	}
	if pause(r.Context(), time.Duration(ms)*time.Millisecond) {
		fmt.Fprintf(w, "after %d ms\n", ms)
	}
}

// events sends one every 100 ms, `count` of them or until the client leaves.
func events(w http.ResponseWriter, r *http.Request) {
	count := number(r, "count", 1<<62)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	for i := int64(1); i <= count; i++ {
		if _, err := fmt.Fprintf(w, "id: %d\nevent: tick\ndata: {\"n\": %d}\n\n", i, i); err != nil || control.Flush() != nil {
			return
		}
		if i < count && !pause(r.Context(), 100*time.Millisecond) {
			return
		}
	}
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "a status from 200 to 599", http.StatusBadRequest)
		return
	}
	if location := r.URL.Query().Get("location"); location != "" {
		w.Header().Set("Location", location)
	}
	w.WriteHeader(code)
	if r.Method != http.MethodHead && code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintln(w, code, http.StatusText(code))
	}
}

// cookie sets one cookie for this host and one for a whole domain, which a pod must not be able to do.
func cookie(w http.ResponseWriter, r *http.Request) {
	domain := r.URL.Query().Get("domain")
	if domain == "" {
		domain = "example.com"
	}
	http.SetCookie(w, &http.Cookie{Name: "own", Value: "1", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.SetCookie(w, &http.Cookie{Name: "wide", Value: "2", Path: "/", Domain: domain})
	fmt.Fprintln(w, "two cookies")
}

// exit ends the process with `code`: after its answer, or, with `silent`, without one.
func exit(w http.ResponseWriter, r *http.Request) {
	code := number(r, "code", 0)
	if code < 0 || code > 255 {
		http.Error(w, "code must be from 0 to 255", http.StatusBadRequest)
		return
	}
	if !r.URL.Query().Has("silent") {
		w.Header().Set("Connection", "close")
		w.Header().Set("Content-Length", "0")
		_ = http.NewResponseController(w).Flush()
	}
	os.Exit(int(code))
}

// number of the query; -1 when it is none.
func number(r *http.Request, name string, otherwise int64) int64 {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return value
}
