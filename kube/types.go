package kube

// Meta is an object's metadata.
type Meta struct {
	Name        string            `yaml:"name,omitempty"`
	Namespace   string            `yaml:"namespace,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
	Created     string            `yaml:"creationTimestamp,omitempty"`
}

// Head is what every object has.
type Head struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   Meta   `yaml:"metadata"`
}

// A Pod is several containers that share namespaces.
type Pod struct {
	Head `yaml:",inline"`
	Spec PodSpec `yaml:"spec"`
}

// A Controller is a Deployment, DaemonSet or Job: one pod of a template.
type Controller struct {
	Head `yaml:",inline"`
	Spec ControllerSpec `yaml:"spec"`
}

// ControllerSpec holds the template of a Controller's pod.
type ControllerSpec struct {
	Replicas *int           `yaml:"replicas,omitempty"`
	Selector map[string]any `yaml:"selector,omitempty"`
	Template Template       `yaml:"template"`
}

// A Template is a pod without a name.
type Template struct {
	Metadata Meta    `yaml:"metadata"`
	Spec     PodSpec `yaml:"spec"`
}

// PodSpec describes a pod.
type PodSpec struct {
	Containers       []Container  `yaml:"containers"`
	InitContainers   []Container  `yaml:"initContainers,omitempty"`
	Volumes          []Volume     `yaml:"volumes,omitempty"`
	RestartPolicy    string       `yaml:"restartPolicy,omitempty"`
	GraceSeconds     *uint        `yaml:"terminationGracePeriodSeconds,omitempty"`
	Hostname         string       `yaml:"hostname,omitempty"`
	HostAliases      []HostAlias  `yaml:"hostAliases,omitempty"`
	DNSConfig        *DNSConfig   `yaml:"dnsConfig,omitempty"`
	HostNetwork      bool         `yaml:"hostNetwork,omitempty"`
	HostPID          bool         `yaml:"hostPID,omitempty"`
	HostIPC          bool         `yaml:"hostIPC,omitempty"`
	HostUsers        *bool        `yaml:"hostUsers,omitempty"`
	ShareProcesses   bool         `yaml:"shareProcessNamespace,omitempty"`
	SecurityContext  *PodSecurity `yaml:"securityContext,omitempty"`
	ActiveDeadline   uint         `yaml:"activeDeadlineSeconds,omitempty"`
	AutomountAccount *bool        `yaml:"automountServiceAccountToken,omitempty"`
	ServiceLinks     *bool        `yaml:"enableServiceLinks,omitempty"`
}

// HostAlias is a line of /etc/hosts.
type HostAlias struct {
	IP        string   `yaml:"ip"`
	Hostnames []string `yaml:"hostnames"`
}

// DNSConfig is for resolv.conf.
type DNSConfig struct {
	Nameservers []string `yaml:"nameservers,omitempty"`
	Searches    []string `yaml:"searches,omitempty"`
	Options     []Pair   `yaml:"options,omitempty"`
}

// Pair is a name and a value.
type Pair struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value,omitempty"`
}

// SELinux are the parts of a label.
type SELinux struct {
	User  string `yaml:"user,omitempty"`
	Role  string `yaml:"role,omitempty"`
	Type  string `yaml:"type,omitempty"`
	Level string `yaml:"level,omitempty"`
}

// Profile is of seccomp or AppArmor: RuntimeDefault, Unconfined or Localhost.
type Profile struct {
	Type      string `yaml:"type"`
	Localhost string `yaml:"localhostProfile,omitempty"`
}

// PodSecurity holds for all containers of a pod.
type PodSecurity struct {
	RunAsUser          *int64   `yaml:"runAsUser,omitempty"`
	RunAsGroup         *int64   `yaml:"runAsGroup,omitempty"`
	RunAsNonRoot       *bool    `yaml:"runAsNonRoot,omitempty"`
	SupplementalGroups []int64  `yaml:"supplementalGroups,omitempty"`
	FSGroup            *int64   `yaml:"fsGroup,omitempty"`
	SELinux            *SELinux `yaml:"seLinuxOptions,omitempty"`
	Seccomp            *Profile `yaml:"seccompProfile,omitempty"`
	AppArmor           *Profile `yaml:"appArmorProfile,omitempty"`
	Sysctls            []Pair   `yaml:"sysctls,omitempty"`
}

// Security is of one container.
type Security struct {
	RunAsUser       *int64        `yaml:"runAsUser,omitempty"`
	RunAsGroup      *int64        `yaml:"runAsGroup,omitempty"`
	RunAsNonRoot    *bool         `yaml:"runAsNonRoot,omitempty"`
	ReadOnlyRoot    *bool         `yaml:"readOnlyRootFilesystem,omitempty"`
	Privileged      *bool         `yaml:"privileged,omitempty"`
	AllowEscalation *bool         `yaml:"allowPrivilegeEscalation,omitempty"`
	ProcMount       string        `yaml:"procMount,omitempty"`
	Capabilities    *Capabilities `yaml:"capabilities,omitempty"`
	SELinux         *SELinux      `yaml:"seLinuxOptions,omitempty"`
	Seccomp         *Profile      `yaml:"seccompProfile,omitempty"`
	AppArmor        *Profile      `yaml:"appArmorProfile,omitempty"`
}

// Capabilities are names without CAP_.
type Capabilities struct {
	Add  []string `yaml:"add,omitempty"`
	Drop []string `yaml:"drop,omitempty"`
}

// A Container of a pod.
type Container struct {
	Name            string     `yaml:"name"`
	Image           string     `yaml:"image"`
	PullPolicy      string     `yaml:"imagePullPolicy,omitempty"`
	Command         []string   `yaml:"command,omitempty"`
	Args            []string   `yaml:"args,omitempty"`
	WorkingDir      string     `yaml:"workingDir,omitempty"`
	Ports           []Port     `yaml:"ports,omitempty"`
	Env             []Env      `yaml:"env,omitempty"`
	EnvFrom         []EnvFrom  `yaml:"envFrom,omitempty"`
	Mounts          []Mount    `yaml:"volumeMounts,omitempty"`
	Resources       *Resources `yaml:"resources,omitempty"`
	Liveness        *Probe     `yaml:"livenessProbe,omitempty"`
	Readiness       *Probe     `yaml:"readinessProbe,omitempty"`
	Startup         *Probe     `yaml:"startupProbe,omitempty"`
	Lifecycle       *Lifecycle `yaml:"lifecycle,omitempty"`
	SecurityContext *Security  `yaml:"securityContext,omitempty"`
	RestartPolicy   string     `yaml:"restartPolicy,omitempty"`
	Stdin           bool       `yaml:"stdin,omitempty"`
	StdinOnce       bool       `yaml:"stdinOnce,omitempty"`
	TTY             bool       `yaml:"tty,omitempty"`
	LogPath         string     `yaml:"terminationMessagePath,omitempty"`
	LogPolicy       string     `yaml:"terminationMessagePolicy,omitempty"`
}

// A Port of a container.
type Port struct {
	Name          string `yaml:"name,omitempty"`
	ContainerPort uint16 `yaml:"containerPort"`
	HostPort      uint16 `yaml:"hostPort,omitempty"`
	HostIP        string `yaml:"hostIP,omitempty"`
	Protocol      string `yaml:"protocol,omitempty"`
}

// Env is one variable.
type Env struct {
	Name      string   `yaml:"name"`
	Value     string   `yaml:"value,omitempty"`
	ValueFrom *EnvFunc `yaml:"valueFrom,omitempty"`
}

// EnvFunc is where a variable's value comes from.
type EnvFunc struct {
	ConfigMap *KeyRef      `yaml:"configMapKeyRef,omitempty"`
	Secret    *KeyRef      `yaml:"secretKeyRef,omitempty"`
	Field     *FieldRef    `yaml:"fieldRef,omitempty"`
	Resource  *ResourceRef `yaml:"resourceFieldRef,omitempty"`
}

// KeyRef is a key of a ConfigMap or Secret.
type KeyRef struct {
	Name     string `yaml:"name"`
	Key      string `yaml:"key"`
	Optional bool   `yaml:"optional,omitempty"`
}

// FieldRef is a field of the pod.
type FieldRef struct {
	APIVersion string `yaml:"apiVersion,omitempty"`
	Path       string `yaml:"fieldPath"`
}

// ResourceRef is a limit or request of a container.
type ResourceRef struct {
	Container string `yaml:"containerName,omitempty"`
	Resource  string `yaml:"resource"`
	Divisor   string `yaml:"divisor,omitempty"`
}

// EnvFrom makes variables of all keys.
type EnvFrom struct {
	Prefix    string   `yaml:"prefix,omitempty"`
	ConfigMap *NameRef `yaml:"configMapRef,omitempty"`
	Secret    *NameRef `yaml:"secretRef,omitempty"`
}

// NameRef names a ConfigMap or Secret.
type NameRef struct {
	Name     string `yaml:"name"`
	Optional bool   `yaml:"optional,omitempty"`
}

// A Mount puts a volume into a container.
type Mount struct {
	Name        string `yaml:"name"`
	Path        string `yaml:"mountPath"`
	ReadOnly    bool   `yaml:"readOnly,omitempty"`
	SubPath     string `yaml:"subPath,omitempty"`
	SubPathExpr string `yaml:"subPathExpr,omitempty"`
	Propagation string `yaml:"mountPropagation,omitempty"`
}

// Resources are quantities: cpu, memory.
type Resources struct {
	Limits   map[string]string `yaml:"limits,omitempty"`
	Requests map[string]string `yaml:"requests,omitempty"`
}

// A Probe looks whether a container is well; times are seconds.
type Probe struct {
	Exec *struct {
		Command []string `yaml:"command"`
	} `yaml:"exec,omitempty"`
	HTTP *struct {
		Host    string `yaml:"host,omitempty"`
		Path    string `yaml:"path,omitempty"`
		Port    string `yaml:"port"`
		Scheme  string `yaml:"scheme,omitempty"`
		Headers []Pair `yaml:"httpHeaders,omitempty"`
	} `yaml:"httpGet,omitempty"`
	TCP *struct {
		Host string `yaml:"host,omitempty"`
		Port string `yaml:"port"`
	} `yaml:"tcpSocket,omitempty"`
	InitialDelay int  `yaml:"initialDelaySeconds,omitempty"`
	Timeout      int  `yaml:"timeoutSeconds,omitempty"`
	Period       int  `yaml:"periodSeconds,omitempty"`
	Success      int  `yaml:"successThreshold,omitempty"`
	Failure      int  `yaml:"failureThreshold,omitempty"`
	Grace        *int `yaml:"terminationGracePeriodSeconds,omitempty"`
}

// Lifecycle of a container.
type Lifecycle struct {
	StopSignal string `yaml:"stopSignal,omitempty"`
}

// A Volume of a pod.
type Volume struct {
	Name     string `yaml:"name"`
	HostPath *struct {
		Path string `yaml:"path"`
		Type string `yaml:"type,omitempty"`
	} `yaml:"hostPath,omitempty"`
	EmptyDir *struct {
		Medium string `yaml:"medium,omitempty"`
		Size   string `yaml:"sizeLimit,omitempty"`
	} `yaml:"emptyDir,omitempty"`
	Claim *struct {
		Name     string `yaml:"claimName"`
		ReadOnly bool   `yaml:"readOnly,omitempty"`
	} `yaml:"persistentVolumeClaim,omitempty"`
	ConfigMap *FileSource `yaml:"configMap,omitempty"`
	Secret    *FileSource `yaml:"secret,omitempty"`
	Image     *struct {
		Reference  string `yaml:"reference"`
		PullPolicy string `yaml:"pullPolicy,omitempty"`
	} `yaml:"image,omitempty"`
}

// A FileSource makes files of the keys of a ConfigMap or Secret.
type FileSource struct {
	Name       string    `yaml:"name,omitempty"`
	SecretName string    `yaml:"secretName,omitempty"`
	Mode       *int      `yaml:"defaultMode,omitempty"`
	Optional   bool      `yaml:"optional,omitempty"`
	Items      []KeyPath `yaml:"items,omitempty"`
}

// KeyPath is the file that a key becomes.
type KeyPath struct {
	Key  string `yaml:"key"`
	Path string `yaml:"path"`
	Mode *int   `yaml:"mode,omitempty"`
}

// A ConfigMap is a set of texts.
type ConfigMap struct {
	Head      `yaml:",inline"`
	Data      map[string]string `yaml:"data,omitempty"`
	Binary    map[string]string `yaml:"binaryData,omitempty"` // base64
	Immutable bool              `yaml:"immutable,omitempty"`
}

// A Secret is a set of texts that nobody should see.
type Secret struct {
	Head      `yaml:",inline"`
	Type      string            `yaml:"type,omitempty"`
	Data      map[string]string `yaml:"data,omitempty"` // base64
	Text      map[string]string `yaml:"stringData,omitempty"`
	Immutable bool              `yaml:"immutable,omitempty"`
}

// A Claim asks for a volume.
type Claim struct {
	Head `yaml:",inline"`
	Spec ClaimSpec `yaml:"spec"`
}

// ClaimSpec of a Claim. The volume is a local one whatever it says.
type ClaimSpec struct {
	AccessModes  []string   `yaml:"accessModes,omitempty"`
	StorageClass string     `yaml:"storageClassName,omitempty"`
	Resources    *Resources `yaml:"resources,omitempty"`
	VolumeName   string     `yaml:"volumeName,omitempty"`
	VolumeMode   string     `yaml:"volumeMode,omitempty"`
}

// A Service is written by Generate; reading it does nothing.
type Service struct {
	Head `yaml:",inline"`
	Spec ServiceSpec `yaml:"spec"`
}

// ServiceSpec of a Service.
type ServiceSpec struct {
	Type     string            `yaml:"type,omitempty"`
	Selector map[string]string `yaml:"selector,omitempty"`
	Ports    []ServicePort     `yaml:"ports,omitempty"`
}

// ServicePort of a Service.
type ServicePort struct {
	Name       string `yaml:"name,omitempty"`
	Port       uint16 `yaml:"port"`
	NodePort   uint16 `yaml:"nodePort,omitempty"`
	TargetPort string `yaml:"targetPort,omitempty"`
	Protocol   string `yaml:"protocol,omitempty"`
}
