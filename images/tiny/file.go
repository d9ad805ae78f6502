package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
)

// named opens the home folder, below which every file stays whatever its name, and gives the name that was asked for.
func (s *server) named(r *http.Request) (*os.Root, string, error) {
	name := r.URL.Query().Get("name")
	if name == "" {
		name = "file"
	}
	root, err := os.OpenRoot(s.home)
	return root, name, err
}

// readFile serves HEAD, Range and conditional requests too.
func (s *server) readFile(w http.ResponseWriter, r *http.Request) {
	root, name, err := s.named(r)
	if err != nil {
		refuse(w, err)
		return
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		refuse(w, err)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, name, info.ModTime(), file)
}

// writeFile replaces the file when the body has arrived whole: a broken upload leaves the old one.
func (s *server) writeFile(w http.ResponseWriter, r *http.Request) {
	root, name, err := s.named(r)
	if err != nil {
		refuse(w, err)
		return
	}
	defer root.Close()
	partial := name + ".part"
	length, digest, err := receive(root, partial, r.Body)
	if err == nil {
		err = root.Rename(partial, name)
	}
	if err != nil {
		_ = root.Remove(partial)
		refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, map[string]any{"length": length, "sha256": digest})
}

func receive(root *os.Root, name string, body io.Reader) (int64, string, error) {
	file, err := root.Create(name)
	if err != nil {
		return 0, "", err
	}
	digest := sha256.New()
	length, err := io.Copy(io.MultiWriter(file, digest), body)
	return length, hex.EncodeToString(digest.Sum(nil)), errors.Join(err, file.Close())
}

func refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadRequest
	if errors.Is(err, fs.ErrNotExist) {
		code = http.StatusNotFound
	} else if errors.Is(err, fs.ErrPermission) {
		code = http.StatusForbidden
	}
	http.Error(w, err.Error(), code)
}
