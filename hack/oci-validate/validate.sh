#!/bin/sh
# Runs suites that others wrote against hull-runtime, in directories below $WORK (default: a new
# one in /tmp), with the suites' sources from the Go module proxy:
#
#   validate.sh tools   opencontainers/runtime-tools' validation programs
#   validate.sh bats    runc's tests/integration (needs bats, jq, gawk and busybox-static; with
#                       gcc and libseccomp-dev the tests of seccomp agents run as well)
#
# RUNTIME is the program to test, default bin/hull-runtime. Run it as root. What fails or is
# skipped is listed; docs/conformance.md says why.
set -eu
WORK=${WORK:-$(mktemp -d /tmp/oci-validate.XXXXXX)}
# Not what a link leads to: the program asks under which name it was called.
RUNTIME=${RUNTIME:-bin/hull-runtime}
RUNTIME=$(cd "$(dirname "$RUNTIME")" && pwd)/$(basename "$RUNTIME")
TOOLS=github.com/opencontainers/runtime-tools@v0.9.0
RUNC=github.com/opencontainers/runc@v1.1.5

fetch() { # MODULE DIRECTORY: a writable copy
	[ -d "$2" ] && return
	mkdir -p "$WORK/mod"
	dir=$(cd "$WORK/mod" && { [ -f go.mod ] || go mod init x >/dev/null 2>&1; } && go mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')
	cp -r "$dir" "$2"
	chmod -R u+w "$2"
}

tools() {
	src=$WORK/tools
	fetch "$TOOLS" "$src"
	cd "$src"
	[ -f go.mod ] || {
		go mod init github.com/opencontainers/runtime-tools
		# The last that has the types it was written for.
		go mod edit -require github.com/opencontainers/selinux@v1.8.2 -require github.com/opencontainers/runtime-spec@v1.0.2 \
			-replace github.com/opencontainers/runtime-spec=github.com/opencontainers/runtime-spec@v1.0.2 \
			-replace github.com/syndtr/gocapability=github.com/syndtr/gocapability@v0.0.0-20200815063812-42c35b437635
		go mod tidy
	} >/dev/null 2>&1
	CGO_ENABLED=0 go build -o runtimetest ./cmd/runtimetest
	mkdir -p t out
	for d in validation/*/; do
		n=$(basename "$d")
		[ "$n" = util ] || CGO_ENABLED=0 go build -o "t/$n" "./$d"
	done
	pass=0 fail=0 skip=0
	for t in t/*; do
		n=$(basename "$t")
		code=0
		RUNTIME=$RUNTIME timeout 60 "$t" >"out/$n.txt" 2>"out/$n.err" || code=$?
		case $(verdict "out/$n.txt" $code) in
		pass) pass=$((pass + 1)) ;;
		skip) skip=$((skip + 1)); echo "SKIP $n" ;;
		*) fail=$((fail + 1)); echo "FAIL $n ($src/out/$n.txt)" ;;
		esac
	done
	echo "runtime-tools: $pass programs pass, $fail fail, $skip skip"
}

# verdict judges a program by what it printed and its exit code. Some assert nothing when all
# is well: they tell of a failure by an "error" in a diagnosis, or by their exit code.
verdict() { # OUTPUT CODE
	if [ "$2" -ne 0 ] || grep -aq '^not ok' "$1"; then
		echo fail
	elif grep -a '^ok' "$1" | grep -avqi skip; then
		echo pass
	elif grep -aq '^ok' "$1"; then
		echo skip
	elif grep -aq '^ *"error": "[^"]' "$1"; then
		echo fail
	else
		echo pass
	fi
}

# root makes the file system that the tests unpack, of busybox.
root() {
	r=$WORK/root
	# As in the image that the tests were written for, there is no /proc and no /sys.
	mkdir -p "$r/bin" "$r/usr/bin" "$r/dev" "$r/etc" "$r/tmp" "$r/root" "$r/home" "$r/var" "$r/run"
	cp /bin/busybox "$r/bin/"
	for a in $(/bin/busybox --list); do
		[ "$a" = busybox ] || ln -sf /bin/busybox "$r/bin/$a"
		ln -sf /bin/busybox "$r/usr/bin/$a"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$r/etc/passwd"
	printf 'root:x:0:\n' >"$r/etc/group"
	tar -C "$r" -cJf "$1" .
}

# debian makes the second one, of a few programs of this machine and their libraries.
debian() {
	d=$WORK/debian
	mkdir -p "$d/etc" "$d/lib" "$d/usr/lib" "$d/tmp" "$d/dev" "$d/var/cache/ldconfig"
	for f in /bin/sh /bin/grep /sbin/ldconfig; do
		[ -x "$f" ] || return 1
		cp -L --parents "$f" "$d"
		ldd "$f" 2>/dev/null | grep -o '/[^ ]*' | while read -r l; do cp -L --parents "$l" "$d"; done
	done
	tar -C "$d" -cJf "$1" .
}

integration() {
	src=$WORK/runc
	fetch "$RUNC" "$src"
	cd "$src"
	for c in recvtty sd-helper; do
		[ -x "contrib/cmd/$c/$c" ] || go build -mod=mod -o "contrib/cmd/$c/$c" "./contrib/cmd/$c"
	done
	# Without libseccomp the agent is a program that says so, and its tests fail.
	agent=contrib/cmd/seccompagent
	[ -x $agent/seccompagent ] || CGO_ENABLED=1 go build -mod=mod -tags seccomp -o $agent/seccompagent ./$agent ||
		go build -mod=mod -o $agent/seccompagent ./$agent
	chmod +x tests/integration/*.sh $agent/*.sh
	data=tests/integration/testdata
	arch=$(go env GOARCH)
	[ -f "$data/busybox-$arch.tar.xz" ] || root "$data/busybox-$arch.tar.xz"
	[ -f "$data/debian-$arch.tar.xz" ] || debian "$data/debian-$arch.tar.xz" || cp "$data/busybox-$arch.tar.xz" "$data/debian-$arch.tar.xz"
	rm -rf "$WORK/out"
	mkdir -p "$WORK/out"
	cd tests/integration
	for f in *.bats; do
		RUNC=$RUNTIME timeout 300 bats --tap "$f" >"$WORK/out/$f.txt" 2>&1 || true
	done
	for f in *.bats; do
		sed -n "s/^not ok \([0-9]*\) \(.*\)/FAIL ${f%.bats} \1: \2/p; s/^ok \([0-9]*\) \(.*\) # skip \(.*\)/SKIP ${f%.bats} \1: \2 (\3)/p" "$WORK/out/$f.txt"
	done
	all=$(cat "$WORK"/out/*.txt | grep -ac '^ok')
	skip=$(cat "$WORK"/out/*.txt | grep -a '^ok' | grep -c '# skip' || true)
	fail=$(cat "$WORK"/out/*.txt | grep -ac '^not ok' || true)
	echo "runc's integration tests: $((all - skip)) pass, $fail fail, $skip skip; texts in $WORK/out"
}

[ -x "$RUNTIME" ] || { echo "no such program: $RUNTIME" >&2; exit 1; }
case ${1:-} in
tools) tools ;;
bats)
	for p in bats jq gawk xz; do
		command -v $p >/dev/null || { echo "validate.sh bats needs $p" >&2; exit 1; }
	done
	integration
	;;
*) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
