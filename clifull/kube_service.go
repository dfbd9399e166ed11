package clifull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"hull/command"
	"hull/engine"
	"hull/kube"
)

// beginService takes the service manager's socket: it is this process that says
// that it is ready, and no container.
func (p *kubePlay) beginService() {
	p.notify = os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
}

// serve stays as the process of a systemd service for as long as a container of
// the pods runs: it says that they are ready, stops them when it is told to
// end, and takes over their exit codes as far as codes says: none, any or all.
func (p *kubePlay) serve(ctx context.Context, work *kube.Work) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := notifyReady(p.notify); err != nil {
		p.s.warn(err.Error())
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	failed, ended, code := 0, 0, 0
	for _, pod := range work.Pods {
		for _, c := range pod.Containers {
			if c.InitCtr != "" {
				continue
			}
			group.Go(func() {
				got, err := p.ended(ctx, c.Name)
				mu.Lock()
				defer mu.Unlock()
				if ended++; err == nil && got != 0 {
					failed, code = failed+1, got
				}
			})
		}
	}
	group.Wait()
	if ctx.Err() != nil {
		for _, pod := range work.Pods {
			if _, err := p.e.PodStop(context.WithoutCancel(ctx), pod.Options.Name, engine.StopOptions{}); err != nil && !errors.Is(err, engine.ErrNotFound) {
				p.s.warn(err.Error())
			}
		}
		return nil
	}
	if p.exitCodes == "any" && failed > 0 || p.exitCodes == "all" && failed == ended && failed > 0 {
		return &command.Exit{Code: code}
	}
	return nil
}

// ended waits until a container has ended for good: one that its policy starts
// again goes on.
func (p *kubePlay) ended(ctx context.Context, name string) (int, error) {
	for {
		code, err := p.e.Wait(ctx, name, engine.WaitOptions{Interval: 500 * time.Millisecond})
		if err != nil {
			return code, err
		}
		select {
		case <-ctx.Done():
			return code, context.Cause(ctx)
		case <-time.After(2 * time.Second):
		}
		c, err := p.e.Inspect(ctx, name, false)
		if err != nil {
			return code, err
		}
		policy := c.HostConfig.RestartPolicy.Name
		if !c.State.Running && (policy != "always" && policy != "unless-stopped" && !(policy == "on-failure" && code != 0)) {
			return code, nil
		}
	}
}

// notifyReady tells the service manager, as sd_notify(3) says.
func notifyReady(socket string) error {
	if socket == "" {
		return nil
	}
	c, err := net.Dial("unixgram", socket)
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte("READY=1\nMAINPID=" + strconv.Itoa(os.Getpid())))
	return err
}
