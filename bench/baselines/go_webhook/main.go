// Baseline: check the JWT and the payload hash of a webhook, append it to a stream with XADD, answer 200.
// Arguments: URL of Redis, account, secret, port.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"
)

type claims struct {
	jwt.RegisteredClaims
	APIKey      string `json:"api_key"`
	PayloadHash string `json:"payload_hash"`
}

func main() {
	options, err := redis.ParseURL(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	client, account, secret := redis.NewClient(options), os.Args[2], []byte(os.Args[3])
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("Vonage"))
	key := func(token *jwt.Token) (any, error) {
		if token.Claims.(*claims).APIKey != account {
			return nil, errors.New("unknown account")
		}
		return secret, nil
	}
	http.HandleFunc("POST /webhooks/message-status", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 131072))
		token, hash := new(claims), sha256.Sum256(body)
		if err == nil {
			_, err = parser.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), token, key)
		}
		if err != nil || token.PayloadHash != hex.EncodeToString(hash[:]) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		values := []any{"payload", body, "received_ms", time.Now().UnixMilli(), "account", account}
		if client.XAdd(r.Context(), &redis.XAddArgs{Stream: "go_webhook", Values: values}).Err() != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[4], nil))
}
