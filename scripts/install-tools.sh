#!/usr/bin/env bash
# Install the programs that the tests hold Lightship against, from Debian's packages, where they are missing:
#   scripts/install-tools.sh
# Tests whose program is missing are skipped, and say so; in CI they fail.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

programs=(  # program:package
	dockerd:docker.io iptables:iptables podman:podman skopeo:skopeo umoci:umoci buildah:buildah
	docker-registry:docker-registry containerd:containerd ctr:containerd busybox:busybox-static
	bwrap:bubblewrap unshare:util-linux setpriv:util-linux qemu-aarch64-static:qemu-user-static
	gpg:gpg gpgv:gpgv mmdebstrap:mmdebstrap cc:gcc readelf:binutils
	chromium:chromium
)
missing=()
for entry in "${programs[@]}"; do
	command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
test -f /usr/share/keyrings/debian-archive-keyring.gpg || missing+=(debian-archive-keyring)
test -d /usr/share/gocode/src/github.com/opencontainers/image-spec/schema ||
	missing+=(golang-github-opencontainers-image-spec-dev)
test -f /usr/include/stdio.h || missing+=(libc6-dev)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})); then
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
