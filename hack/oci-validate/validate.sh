#!/bin/sh
# Runs suites that others wrote against hull-runtime, in directories below $WORK (default: a new
# one in /tmp), with the suites' sources from the Go module proxy:
#
#   validate.sh tools   opencontainers/runtime-tools' validation programs
#   validate.sh bats    runc's tests/integration (needs bats, jq, gawk and busybox-static)
#
# RUNTIME is the program to test, default bin/hull-runtime. Run it as root. What fails is listed
# with the file that says why.
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
		if [ $code -ne 0 ] || grep -q '^not ok' "out/$n.txt"; then
			fail=$((fail + 1))
			echo "FAIL $n ($src/out/$n.txt)"
		elif grep -q '^ok' "out/$n.txt" && grep '^ok' "out/$n.txt" | grep -vqi skip; then
			pass=$((pass + 1))
		else
			skip=$((skip + 1))
		fi
	done
	echo "runtime-tools: $pass programs pass, $fail fail, $skip skip"
}

# root makes the file system that the tests unpack, of busybox.
root() {
	r=$WORK/root
	mkdir -p "$r/bin" "$r/usr/bin" "$r/proc" "$r/sys" "$r/dev" "$r/etc" "$r/tmp" "$r/root" "$r/home" "$r/var" "$r/run"
	cp /bin/busybox "$r/bin/"
	for a in $(/bin/busybox --list); do
		[ "$a" = busybox ] || ln -sf /bin/busybox "$r/bin/$a"
		ln -sf /bin/busybox "$r/usr/bin/$a"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$r/etc/passwd"
	printf 'root:x:0:\n' >"$r/etc/group"
	tar -C "$r" -cJf "$1" .
}

integration() {
	src=$WORK/runc
	fetch "$RUNC" "$src"
	cd "$src"
	for c in recvtty seccompagent sd-helper; do
		[ -x "contrib/cmd/$c/$c" ] || go build -mod=mod -o "contrib/cmd/$c/$c" "./contrib/cmd/$c"
	done
	chmod +x tests/integration/*.sh
	data=tests/integration/testdata
	arch=$(go env GOARCH)
	[ -f "$data/busybox-$arch.tar.xz" ] || root "$data/busybox-$arch.tar.xz"
	[ -f "$data/debian-$arch.tar.xz" ] || cp "$data/busybox-$arch.tar.xz" "$data/debian-$arch.tar.xz"
	mkdir -p "$WORK/out"
	cd tests/integration
	for f in *.bats; do
		RUNC=$RUNTIME timeout 300 bats --tap "$f" >"$WORK/out/$f.txt" 2>&1 || true
	done
	cat "$WORK"/out/*.txt | grep -a '^not ok' || true
	all=$(cat "$WORK"/out/*.txt | grep -ac '^ok')
	skip=$(cat "$WORK"/out/*.txt | grep -a '^ok' | grep -c '# skip' || true)
	fail=$(cat "$WORK"/out/*.txt | grep -ac '^not ok' || true)
	echo "runc's integration tests: $((all - skip)) pass, $fail fail, $skip skip; texts in $WORK/out"
}

[ -x "$RUNTIME" ] || { echo "no such program: $RUNTIME" >&2; exit 1; }
case ${1:-} in
tools) tools ;;
bats) command bats --version >/dev/null && integration ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
