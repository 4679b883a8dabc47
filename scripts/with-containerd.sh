#!/usr/bin/env bash
# Run a command with a containerd of its own, and stop it afterwards:
#   scripts/with-containerd.sh ctr images ls
# Needs root and Debian's containerd. The images, the socket (in CONTAINERD_ADDRESS, which ctr reads) and all state are
# in a temporary directory, which is removed.
set -euo pipefail

if (($# == 0)); then
	echo "usage: $0 COMMAND [ARGUMENT...]" >&2
	exit 2
fi
daemon=$(PATH="$PATH:/usr/sbin:/sbin" command -v containerd) || {
	echo "$0: containerd is not installed (scripts/install-tools.sh)" >&2
	exit 1
}
work=$(mktemp -d "${TMPDIR:-/tmp}/containerd.XXXXXX")
pid=

stop() {
	status=$?
	trap - EXIT
	if [[ -n $pid ]]; then
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	fi
	rm -rf --one-file-system "$work" || echo "$0: $work is left behind" >&2
	exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export CONTAINERD_ADDRESS="$work/containerd.sock"
# Images only: what serves Kubernetes and other storage is left out.
cat >"$work/config.toml" <<EOF
version = 2
root = "$work/root"
state = "$work/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$CONTAINERD_ADDRESS"
[ttrpc]
  address = "$CONTAINERD_ADDRESS.ttrpc"
EOF
"$daemon" --config "$work/config.toml" >"$work/log" 2>&1 </dev/null &
pid=$!
for _ in $(seq 120); do
	ctr version >/dev/null 2>&1 && break
	kill -0 "$pid" 2>/dev/null || break
	sleep 0.25
done
ctr version >/dev/null 2>&1 || {
	tail -n 20 "$work/log" >&2
	echo "$0: containerd does not answer" >&2
	exit 1
}
"$@"
