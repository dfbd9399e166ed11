package quadlet

// kind is a sort of unit file.
type kind struct {
	ext     string // with the dot
	section string
	suffix  string // of the service's name
	steps   []step
	build   func(*translation) error
	// resource is the name of what the service makes, for others that refer to
	// it. It may hold %i.
	resource func(u *Unit, service string) string
}

// step is what becomes of one key. The steps of a kind are in the order of the
// command line.
type step struct {
	key  string
	flag string
	do   func(*translation, step) error // nil when build looks at the key itself
}

// kinds are all sorts, by the extension of the file.
func kinds() map[string]*kind {
	all := map[string]*kind{}
	for _, k := range []*kind{
		{".container", "Container", "", containerSteps(), (*translation).container, containerName},
		{".pod", "Pod", "-pod", podSteps(), (*translation).pod, named("Pod", "PodName")},
		{".volume", "Volume", "-volume", volumeSteps(), (*translation).volume, named("Volume", "VolumeName")},
		{".network", "Network", "-network", networkSteps(), (*translation).network, named("Network", "NetworkName")},
		{".kube", "Kube", "", kubeSteps(), (*translation).kube, func(*Unit, string) string { return "" }},
		{".image", "Image", "-image", imageSteps(), (*translation).image, imageName},
		{".build", "Build", "-build", buildSteps(), (*translation).image, buildName},
		{".artifact", "Artifact", "-artifact", artifactSteps(), (*translation).image, artifactName},
	} {
		all[k.ext] = k
	}
	return all
}

// common are keys that every section has; they stand before the command's name.
func common(more ...step) []step {
	return append([]step{{"ContainersConfModule", "", nil}, {"GlobalArgs", "", nil}, {"ServiceName", "", nil}}, more...)
}

func containerSteps() []step {
	steps := common(
		step{"ContainerName", "", nil}, step{"ReloadCmd", "", nil}, step{"ReloadSignal", "", nil},
		step{"LogDriver", "--log-driver", word},
		step{"LogOpt", "--log-opt", list},
		step{"CgroupsMode", "", cgroups},
		step{"Timezone", "--tz", word},
		step{"PidsLimit", "--pids-limit", word},
		step{"ShmSize", "--shm-size", word},
		step{"Entrypoint", "--entrypoint", entrypoint},
		step{"WorkingDir", "--workdir", word},
		step{"IP", "--ip", word},
		step{"IP6", "--ip6", word},
		step{"HostName", "--hostname", word},
		step{"StopSignal", "--stop-signal", word},
		step{"StopTimeout", "--stop-timeout", word},
		step{"Pull", "--pull", word},
		step{"Memory", "--memory", word},
		step{"Retry", "--retry", word},
		step{"RetryDelay", "--retry-delay", word},
		step{"NetworkAlias", "--network-alias", each},
		step{"Ulimit", "--ulimit", each},
		step{"DNS", "--dns", each},
		step{"DNSOption", "--dns-option", each},
		step{"DNSSearch", "--dns-search", each},
		step{"GroupAdd", "--group-add", each},
		step{"AddHost", "--add-host", each},
		step{"Tmpfs", "--tmpfs", each},
		step{"RunInit", "--init", toggle},
		step{"EnvironmentHost", "--env-host", toggle},
		step{"HttpProxy", "--http-proxy", toggle},
		step{"ReadOnlyTmpfs", "--read-only-tmpfs", toggle},
		step{"Network", "--network", networks},
		step{"Notify", "--sdnotify", notify},
		step{"NoNewPrivileges", "--security-opt=no-new-privileges", whenTrue},
		step{"SecurityLabelDisable", "label=disable", securitySwitch},
		step{"SecurityLabelNested", "label=nested", securitySwitch},
		step{"SecurityLabelType", "label=type:", security},
		step{"SecurityLabelFileType", "label=filetype:", security},
		step{"SecurityLabelLevel", "label=level:", security},
		step{"AppArmor", "apparmor=", security},
		step{"AddDevice", "--device", devices},
		step{"SeccompProfile", "seccomp=", security},
		step{"DropCapability", "--cap-drop", capabilities},
		step{"AddCapability", "--cap-add", capabilities},
		step{"Sysctl", "--sysctl", list},
		step{"ReadOnly", "--read-only", toggle},
		step{"VolatileTmp", "/tmp:rw,size=512M,mode=1777", volatileTmp},
		step{"User", "--user", user},
		step{"Group", "", nil},
	)
	steps = append(steps, mappingSteps()...)
	steps = append(steps,
		step{"Volume", "-v", volumes},
		step{"AutoUpdate", "--label", autoUpdate},
		step{"ExposeHostPort", "--expose", expose},
		step{"PublishPort", "--publish", each},
		step{"Environment", "--env", pairs},
		step{"Label", "--label", pairs},
		step{"Annotation", "--annotation", pairs},
		step{"Mask", "mask=", securityEach},
		step{"Unmask", "unmask=", securityEach},
		step{"EnvironmentFile", "--env-file", files},
		step{"Secret", "--secret", args},
		step{"Mount", "--mount", mounts},
	)
	for _, h := range [...][2]string{
		{"Cmd", "cmd"}, {"Interval", "interval"}, {"OnFailure", "on-failure"}, {"LogDestination", "log-destination"},
		{"MaxLogCount", "max-log-count"}, {"MaxLogSize", "max-log-size"}, {"Retries", "retries"}, {"StartPeriod", "start-period"},
		{"Timeout", "timeout"}, {"StartupCmd", "startup-cmd"}, {"StartupInterval", "startup-interval"},
		{"StartupRetries", "startup-retries"}, {"StartupSuccess", "startup-success"}, {"StartupTimeout", "startup-timeout"},
	} {
		steps = append(steps, step{"Health" + h[0], "--health-" + h[1], word})
	}
	return append(steps,
		step{"Pod", "--pod", joinPod},
		step{"StartWithPod", "", nil},
		step{"PodmanArgs", "", bare},
		step{"Image", "", containerImage},
		step{"Rootfs", "--rootfs", word},
		step{"Exec", "", execArgs},
	)
}

// mappingSteps are the keys of user namespaces.
func mappingSteps() []step {
	return append([]step{
		{"UIDMap", "--uidmap", list},
		{"GIDMap", "--gidmap", list},
		{"SubUIDMap", "--subuidname", word},
		{"SubGIDMap", "--subgidname", word},
	}, remapSteps()...)
}

// remapSteps are UserNS and older keys that say the same.
func remapSteps() []step {
	return []step{
		{"UserNS", "--userns", word},
		{"RemapUsers", "--userns", remap},
		{"RemapUid", "--uidmap", nil}, {"RemapGid", "--gidmap", nil}, {"RemapUidSize", "", nil},
	}
}

func podSteps() []step {
	steps := common(step{"PodName", "", nil}, step{"StopTimeout", "", nil}, step{"ExitPolicy", "--exit-policy", exitPolicy})
	steps = append(steps, mappingSteps()...)
	return append(steps,
		step{"PublishPort", "--publish", each},
		step{"Label", "--label", pairs},
		step{"Network", "--network", networks},
		step{"IP", "--ip", word},
		step{"IP6", "--ip6", word},
		step{"ShmSize", "--shm-size", word},
		step{"NetworkAlias", "--network-alias", each},
		step{"DNS", "--dns", each},
		step{"DNSOption", "--dns-option", each},
		step{"DNSSearch", "--dns-search", each},
		step{"AddHost", "--add-host", each},
		step{"HostName", "--hostname", each},
		step{"Volume", "-v", volumes},
		step{"PodmanArgs", "", podArgs},
	)
}

func volumeSteps() []step {
	return common(
		step{"VolumeName", "", nil},
		step{"Driver", "--driver", word},
		step{"Image", "--opt", volumeImage},
		step{"Copy", "--opt", volumeCopy},
		step{"Device", "--opt", volumeDevice},
		step{"Type", "--opt", volumeType},
		step{"User", "--opt", volumeOptions}, step{"Group", "", nil}, step{"Options", "", nil},
		step{"UID", "--uid", word},
		step{"GID", "--gid", word},
		step{"Label", "--label", pairs},
		step{"PodmanArgs", "", bare},
	)
}

func networkSteps() []step {
	return common(
		step{"NetworkName", "", nil}, step{"NetworkDeleteOnStop", "", nil},
		step{"DisableDNS", "--disable-dns", toggle},
		step{"Internal", "--internal", toggle},
		step{"IPv6", "--ipv6", toggle},
		step{"Driver", "--driver", word},
		step{"IPAMDriver", "--ipam-driver", word},
		step{"InterfaceName", "--interface-name", word},
		step{"DNS", "--dns", each},
		step{"Subnet", "--subnet", subnets}, step{"Gateway", "--gateway", nil}, step{"IPRange", "--ip-range", nil},
		step{"Options", "--opt", pairs},
		step{"Label", "--label", pairs},
		step{"PodmanArgs", "", bare},
	)
}

func kubeSteps() []step {
	steps := common(
		step{"KubeDownForce", "--force", nil},
		step{"ExitCodePropagation", "--service-exit-code-propagation=", joined},
		step{"LogDriver", "--log-driver", word},
		step{"LogOpt", "--log-opt", list},
	)
	steps = append(steps, remapSteps()...)
	return append(steps,
		step{"Network", "--network", networks},
		step{"AutoUpdate", "--annotation=io.containers.autoupdate", kubeAutoUpdate},
		step{"ConfigMap", "--configmap", files},
		step{"PublishPort", "--publish", each},
		step{"PodmanArgs", "", bare},
		step{"Yaml", "", yaml},
		step{"SetWorkingDirectory", "", workingDirectory},
	)
}

func imageSteps() []step {
	return common(
		step{"ImageTag", "", nil},
		step{"Arch", "--arch", word},
		step{"AuthFile", "--authfile", word},
		step{"CertDir", "--cert-dir", word},
		step{"Creds", "--creds", word},
		step{"DecryptionKey", "--decryption-key", word},
		step{"OS", "--os", word},
		step{"Policy", "--policy", word},
		step{"Variant", "--variant", word},
		step{"Retry", "--retry", word},
		step{"RetryDelay", "--retry-delay", word},
		step{"AllTags", "--all-tags", toggle},
		step{"TLSVerify", "--tls-verify", toggle},
		step{"PodmanArgs", "", bare},
		step{"Image", "", needed},
	)
}

func artifactSteps() []step {
	return common(
		step{"AuthFile", "--authfile", word},
		step{"CertDir", "--cert-dir", word},
		step{"Creds", "--creds", word},
		step{"DecryptionKey", "--decryption-key", word},
		step{"Quiet", "--quiet", toggle},
		step{"Retry", "--retry", word},
		step{"RetryDelay", "--retry-delay", word},
		step{"TLSVerify", "--tls-verify", toggle},
		step{"PodmanArgs", "", bare},
		step{"Artifact", "", needed},
	)
}

func buildSteps() []step {
	return common(
		step{"Pull", "--pull=", joined}, // one word, for the flag's value is optional
		step{"Arch", "--arch", word},
		step{"AuthFile", "--authfile", word},
		step{"Target", "--target", word},
		step{"Variant", "--variant", word},
		step{"Retry", "--retry", word},
		step{"RetryDelay", "--retry-delay", word},
		step{"TLSVerify", "--tls-verify", toggle},
		step{"ForceRM", "--force-rm", toggle},
		step{"DNS", "--dns", each},
		step{"DNSOption", "--dns-option", each},
		step{"DNSSearch", "--dns-search", each},
		step{"GroupAdd", "--group-add", each},
		step{"ImageTag", "--tag", imageTags},
		step{"BuildArg", "--build-arg", pairs},
		step{"Environment", "--env", pairs},
		step{"Label", "--label", pairs},
		step{"Annotation", "--annotation", pairs},
		step{"Network", "--network", networks},
		step{"Secret", "--secret", args},
		step{"Volume", "-v", volumes},
		step{"IgnoreFile", "--ignorefile", oneFile},
		step{"File", "--file", buildFile},
		step{"SetWorkingDirectory", "", workingDirectory},
		step{"PodmanArgs", "", buildContext},
	)
}
