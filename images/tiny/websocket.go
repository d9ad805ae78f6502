package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// A text message up to this long may be a command; longer ones are only echoed, without holding them in memory.
const commandLimit = 256

// webSocket echoes messages. `close <code> <reason>` closes, `headers` tells the headers that the connection came with;
// with `?tick=<ms>` it also sends a message by itself that often.
func (s *server) webSocket(w http.ResponseWriter, r *http.Request) {
	// Any origin: who may come is for the one in front to decide.
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{"echo.v1"},
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	defer socket.CloseNow()
	s.counters.websockets.Add(1)
	defer s.counters.websockets.Add(-1)
	socket.SetReadLimit(-1)

	// Not the request's context: its end would cut the connection, and the peer shall get a close code.
	life, over := context.WithCancel(context.Background())
	defer over()
	go func() {
		select {
		case <-s.ending.Done():
			_ = socket.Close(websocket.StatusGoingAway, "the pod ends")
		case <-life.Done():
		}
	}()
	if ms := number(r, "tick", 0); ms > 0 {
		go tick(life, socket, time.Duration(ms)*time.Millisecond)
	}
	for {
		if err := echoMessage(life, socket, r.Header); err != nil {
			return
		}
	}
}

func tick(life context.Context, socket *websocket.Conn, every time.Duration) {
	for n := 1; pause(life, every); n++ {
		if socket.Write(life, websocket.MessageText, fmt.Appendf(nil, "tick %d", n)) != nil {
			return
		}
	}
}

func echoMessage(life context.Context, socket *websocket.Conn, headers http.Header) error {
	kind, message, err := socket.Reader(life)
	if err != nil {
		return err
	}
	buffered := bufio.NewReaderSize(message, 32<<10)
	if kind == websocket.MessageText {
		start, err := buffered.Peek(commandLimit)
		if err == io.EOF { // the whole message
			if code, reason, ok := closing(string(start)); ok {
				return socket.Close(code, reason)
			}
			if string(start) == "headers" {
				text, err := json.Marshal(headers)
				if err != nil {
					return err
				}
				_, _ = buffered.Discard(len(start))
				return socket.Write(life, websocket.MessageText, text)
			}
		}
	}
	writer, err := socket.Writer(life, kind)
	if err != nil {
		return err
	}
	if _, err := io.Copy(writer, buffered); err != nil {
		return err
	}
	return writer.Close()
}

func closing(text string) (websocket.StatusCode, string, bool) {
	words := strings.SplitN(text, " ", 3)
	if len(words) < 2 || words[0] != "close" {
		return 0, "", false
	}
	code, err := strconv.Atoi(words[1])
	if err != nil {
		return 0, "", false
	}
	return websocket.StatusCode(code), strings.Join(words[2:], " "), true
}

// awaitWebSockets gives open connections the time for their close handshake.
func (s *server) awaitWebSockets(limit context.Context) {
	for s.counters.websockets.Load() > 0 && pause(limit, 5*time.Millisecond) {
	}
}
