#!/usr/bin/env bash
# Run a command with a Docker daemon of its own, and stop the daemon afterwards:
#   scripts/with-dockerd.sh make test
# Needs root and Debian's docker.io. Nothing is shared with another daemon on the machine but the bridge docker0: the
# images, the socket (in DOCKER_HOST) and all state are in a temporary directory, which is removed.
set -euo pipefail

if (($# == 0)); then
	echo "usage: $0 COMMAND [ARGUMENT...]" >&2
	exit 2
fi
daemon=$(PATH="$PATH:/usr/sbin:/sbin" command -v dockerd) || {
	echo "$0: dockerd is not installed (scripts/install-tools.sh)" >&2
	exit 1
}
work=$(mktemp -d "${TMPDIR:-/tmp}/dockerd.XXXXXX")
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

export DOCKER_HOST="unix://$work/docker.sock"
# The client that came with this daemon: another one, first on PATH, may lack what `docker build` needs.
mkdir "$work/bin"
for client in "${daemon%/*}/docker" "${daemon%/sbin/*}/bin/docker"; do
	if [[ -x $client ]]; then ln -sf "$client" "$work/bin/docker"; fi
done
export PATH="$work/bin:$PATH:/usr/sbin:/sbin"

"$daemon" --data-root "$work/data" --exec-root "$work/exec" --host "$DOCKER_HOST" --pidfile "$work/pid" \
	>"$work/log" 2>&1 </dev/null &
pid=$!
for _ in $(seq 120); do
	docker version >/dev/null 2>&1 && break
	kill -0 "$pid" 2>/dev/null || break
	sleep 0.5
done
docker version >/dev/null 2>&1 || {
	tail -n 20 "$work/log" >&2
	echo "$0: dockerd does not answer" >&2
	exit 1
}
"$@"
