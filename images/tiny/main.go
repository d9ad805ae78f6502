// Tiny is a workspace for tests: it starts at once, and its answers show what a proxy in front of it has done.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// How long requests that are under way may take to end after a SIGTERM.
const grace = time.Second

// What the pod has seen so far; `/counters` tells it, so that a test can see from outside that a client's end arrived.
type counters struct {
	requests, open, aborted, websockets atomic.Int64
}

type server struct {
	counters counters
	host     string
	home     string
	ending   context.Context // done when the process has been asked to end
}

func main() {
	log.SetFlags(0)
	address := flag.String("address", ":8080", "where to listen")
	base := flag.String("base", "/", "path to serve everything below")
	flag.Parse()
	if err := run(*address, *base); err != nil {
		log.Fatalf("tiny: %v", err)
	}
}

func run(address, base string) error {
	ending, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	// A workspace that takes its time to start, by the pod's environment.
	if err := delay(ending, os.Getenv("START_DELAY")); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &server{host: host, home: cmp.Or(os.Getenv("HOME"), "/"), ending: ending}
	web := &http.Server{
		Handler: http.StripPrefix(strings.TrimSuffix(base, "/"), s.handler()),
		// Streams and slow answers end by themselves when the process is to end.
		BaseContext:       func(net.Listener) context.Context { return ending },
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	log.Printf("%s listens on %s", host, listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-ending.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := web.Shutdown(limit); errors.Is(err, context.DeadlineExceeded) {
		return web.Close()
	} else if err != nil {
		return err
	}
	s.awaitWebSockets(limit)
	return nil
}

func delay(ending context.Context, text string) error {
	if text == "" {
		return nil
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("START_DELAY: %w", err)
	}
	pause(ending, length)
	return nil
}

// pause waits and tells whether it could wait to the end.
func pause(until context.Context, length time.Duration) bool {
	select {
	case <-until.Done():
		return false
	case <-time.After(length):
		return true
	}
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /counters", s.told)
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("GET /slow", slow)
	mux.HandleFunc("GET /sse", events)
	mux.HandleFunc("/status/{code}", status)
	mux.HandleFunc("GET /cookie", cookie)
	mux.HandleFunc("GET /file", s.readFile)
	mux.HandleFunc("PUT /file", s.writeFile)
	mux.HandleFunc("/exit", exit)
	mux.HandleFunc("GET /ws", s.webSocket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.counters.requests.Add(1)
		s.counters.open.Add(1)
		defer func() {
			s.counters.open.Add(-1)
			if r.Context().Err() != nil && s.ending.Err() == nil {
				s.counters.aborted.Add(1)
			}
		}()
		// Not by the mux, which answers a path with `..` or `//` with a redirect: here it is to be seen as it came.
		if path := r.URL.EscapedPath(); path == "/echo" || strings.HasPrefix(path, "/echo/") {
			echo(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
