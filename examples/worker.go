// A pull worker in Go, standard library only: leases jobs over HTTP, keeps the leases alive while it works, and tells how
// each job ended. A worker of your own is one function: countWords, at the end.
//
//	go build examples/worker.go
//	./worker                             # counts the words of jobs of the type wordcount
//	TYPE=render ./worker ./render.sh     # hands jobs of the type render to a command
//
// Invariant: what comes of a lease that is lost (409) is dropped, for somebody else has the job now; and SIGTERM gives back
// what is held, without costing an attempt. Next: docs/guides/pull-workers.md.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	service      = strings.TrimRight(setting("ERRAND_URL", "http://127.0.0.1:8080"), "/")
	jobType      = setting("TYPE", "wordcount")
	slots        = number("SLOTS", 4) // jobs at once
	leaseSeconds = number("LEASE_SECONDS", 30)
	third        = time.Duration(leaseSeconds) * time.Second / 3
	name         = fmt.Sprintf("go-%d", os.Getpid())
	client       = &http.Client{Timeout: 35 * time.Second} // more than a lease call waits
)

// The right to run one start of one job. An answer has more members: see Leases in docs/contract.md.
type Lease struct {
	ID    string
	Epoch int // write it with your effects to refuse those of an older start
	Job   struct {
		ID      string
		Payload json.RawMessage // as it was sent: no number is rounded
	}
}

// Turns a job into its result (JSON) or an error. When ctx is done, somebody cancelled the job, the lease is lost or the
// worker stops: then it should return soon.
type Work func(ctx context.Context, lease Lease) (result any, err error)

// An error that every further attempt would meet again; any other is retryable.
type Permanent struct{ error }

func main() {
	work := countWords
	if len(os.Args) > 1 {
		work = command(os.Args[1:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Printf("%s waits for jobs of type %s at %s", name, jobType, service)
	var running sync.WaitGroup
	for slot := 0; slot < slots; slot++ {
		running.Add(1)
		go func() {
			defer running.Done()
			for ctx.Err() == nil {
				serve(ctx, work)
			}
		}()
	}
	<-ctx.Done()
	// If nobody takes the last reports, the leases run out by themselves.
	time.AfterFunc(10*time.Second, func() { os.Exit(0) })
	running.Wait()
}

// Waits for a job and runs it.
func serve(ctx context.Context, work Work) {
	ask := map[string]any{"worker": name, "types": []string{jobType}, "limit": 1, "lease_seconds": leaseSeconds}
	var answer struct{ Leases []Lease }
	err := call(ctx, "/v1/leases", ask, &answer)
	if err != nil && ctx.Err() == nil {
		log.Fatalf("the service hands out no jobs: %v", err)
	}
	for _, lease := range answer.Leases {
		log.Printf("job %s started", lease.Job.ID)
		run(ctx, lease, work)
	}
}

func run(ctx context.Context, lease Lease, work Work) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	over, end := context.WithCancel(context.Background())
	defer end()
	go keep(over, lease, stop)

	verb, body := "complete", map[string]any{}
	result, err := work(working, lease)
	switch {
	case err == nil:
		body["result"] = result
	case working.Err() != nil:
		verb = "release" // of a job that is to be cancelled, this is the consent; of one that was lost, it is refused
	default:
		verb, body = "fail", failure(err)
	}
	err = report(lease, verb, body)
	if err != nil && verb == "complete" && !isLost(err) {
		// A result that cannot be kept, too large for example: the same work would bring it again.
		verb, err = "fail", report(lease, "fail", failure(Permanent{fmt.Errorf("the result was refused: %w", err)}))
	}
	if isLost(err) {
		verb = "lost, what came of it is dropped"
	}
	log.Printf("job %s %s", lease.Job.ID, verb)
}

// Heartbeats beside the work. They tell it to stop when the job is to be cancelled, and when the lease is lost or was not
// confirmed for so long that somebody else may have the job.
func keep(over context.Context, lease Lease, stop func()) {
	confirmed := time.Now()
	for {
		select {
		case <-over.Done():
			return
		case <-time.After(third):
		}
		var answer struct {
			CancelRequested bool `json:"cancel_requested"`
		}
		soon, done := context.WithTimeout(over, third)
		err := call(soon, "/v1/leases/"+lease.ID+"/heartbeat", map[string]any{"lease_seconds": leaseSeconds}, &answer)
		done()
		if err == nil {
			confirmed = time.Now()
		}
		if answer.CancelRequested || isLost(err) || time.Since(confirmed) > 3*third {
			stop()
		}
	}
}

// Tells how a start ended. It may be repeated: after its success the same call succeeds again.
func report(lease Lease, verb string, body map[string]any) error {
	return call(context.Background(), "/v1/leases/"+lease.ID+"/"+verb, body, nil)
}

func failure(err error) map[string]any {
	class, message := "retryable", err.Error()
	if errors.As(err, &Permanent{}) {
		class = "permanent"
	}
	if len(message) > 1000 {
		message = strings.ToValidUTF8(message[:1000], "")
	}
	return map[string]any{"class": class, "message": message}
}

// An answer that a repetition would get again.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.text) }

func isLost(err error) bool {
	var refused refusal
	return errors.As(err, &refused) && refused.status == http.StatusConflict
}

// Repeats a POST, ever more rarely, while nobody answers or the answer is 429 or 5xx.
func call(ctx context.Context, path string, body, answer any) error {
	var sent bytes.Buffer
	encoder := json.NewEncoder(&sent)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return err
	}
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		status, text, after, err := post(ctx, path, sent.Bytes())
		if err == nil && status < 500 && status != http.StatusTooManyRequests {
			if status >= 300 {
				return refusal{status, string(text)}
			}
			if answer == nil {
				return nil
			}
			return json.Unmarshal(text, answer)
		}
		if pause > 5*time.Second {
			pause = 5 * time.Second
		}
		if after < pause {
			after = pause
		}
		if ctx.Err() == nil {
			log.Printf("no answer: %v %s, trying again", err, text)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(after):
		}
	}
}

// One POST of JSON: the status, the answer, and what Retry-After says.
func post(ctx context.Context, path string, body []byte) (status int, text []byte, after time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, service+path, bytes.NewReader(body))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", "wait=20") // a lease call is answered as soon as there is a job; others do not wait
	response, err := client.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return response.StatusCode, text, time.Duration(seconds) * time.Second, err
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func number(name string, otherwise int) int {
	value, err := strconv.Atoi(setting(name, strconv.Itoa(otherwise)))
	if err != nil {
		log.Fatalf("%s must be a number", name)
	}
	return value
}

// Work that a program does: it gets the payload on its standard input and prints the result, both JSON. Exit code 0
// completes the job, 65 (bad data) ends it for good, any other is tried again.
func command(words []string) Work {
	return func(ctx context.Context, lease Lease) (any, error) {
		var printed, said bytes.Buffer
		program := exec.Command(words[0], words[1:]...)
		program.Stdin, program.Stdout, program.Stderr = bytes.NewReader(lease.Job.Payload), &printed, &said
		program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group, to end what it starts along with it
		if err := program.Start(); err != nil {
			return nil, err
		}
		ended, end := context.WithCancel(context.Background())
		go func() {
			select {
			case <-ctx.Done():
				syscall.Kill(-program.Process.Pid, syscall.SIGTERM)
			case <-ended.Done():
			}
		}()
		err := program.Wait()
		end()
		code := program.ProcessState.ExitCode()
		switch {
		case err == nil && json.Valid(printed.Bytes()):
			return json.RawMessage(printed.Bytes()), nil
		case err == nil:
			return nil, Permanent{errors.New("what the command printed is no JSON")}
		case code == 65:
			return nil, Permanent{fmt.Errorf("exit code %d: %s", code, said.Bytes())}
		default:
			return nil, fmt.Errorf("exit code %d: %s", code, said.Bytes())
		}
	}
}

// The payload is a text, the result how many words it has.
func countWords(_ context.Context, lease Lease) (any, error) {
	var text string
	if json.Unmarshal(lease.Job.Payload, &text) != nil {
		return nil, Permanent{errors.New("the payload must be a text")}
	}
	return len(strings.Fields(text)), nil
}
