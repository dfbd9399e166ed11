package quadlet

// pod is a service whose process is the pod's infra container.
func (t *translation) pod() error {
	name := t.self.resource
	for _, c := range t.self.wants {
		t.out.add("Unit", "Wants", c)
		t.out.add("Unit", "Before", c)
	}
	t.identify()
	timeout := t.last("StopTimeout")
	if timeout == "" {
		timeout = "10"
	}
	t.exec("ExecStart", t.hull("pod", "start", name))
	t.exec("ExecStop", t.hull("pod", "stop", "--ignore", "--time="+timeout, name))
	t.exec("ExecStopPost", t.hull("pod", "rm", "--ignore", "--force", name))
	t.cmd = t.hull("pod", "create", "--infra-conmon-pidfile=%t/%N.pid", "--replace")
	if err := t.apply(); err != nil {
		return err
	}
	t.exec("ExecStartPre", t.cmd)
	t.out.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n")
	t.out.set("Service", "Type", "forking")
	if t.unit.last("Service", "Restart") == "" {
		t.out.set("Service", "Restart", "on-failure")
	}
	t.out.set("Service", "PIDFile", "%t/%N.pid")
	return nil
}

func exitPolicy(t *translation, s step) error {
	if v := t.last(s.key); v != "" {
		t.arg(s.flag, v)
	} else {
		t.arg(s.flag, "stop")
	}
	return nil
}

// podArgs come after the names.
func podArgs(t *translation, s step) error {
	t.arg("--infra-name", t.self.resource+"-infra", "--name", t.self.resource)
	return bare(t, s)
}
