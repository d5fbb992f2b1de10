#!/usr/bin/env bash
# The system tools that the test suites need. With root and apt they are installed; without, what is missing is said
# loudly, and the tests that need it skip with the same words.
set -eu
declare -A packages=(
  [mosquitto]=mosquitto
  [chromium]=chromium
  [systemd-analyze]=systemd
  [strace]=strace
  [mkfs.ext4]=e2fsprogs
  [losetup]=mount
  [ip]=iproute2
  [linux.uml]=user-mode-linux
  [zstd]=zstd
  [faketime]=faketime
  [pg_lsclusters]=postgresql
)
missing=()
for tool in "${!packages[@]}"; do
  PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null || missing+=("$tool")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  wanted=()
  for tool in "${missing[@]}"; do wanted+=("${packages[$tool]}"); done
  echo "Installing for the tests: ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
else
  echo "==================================================================================="
  echo "MISSING TOOLS: ${missing[*]}"
  echo "Tests that need them will be SKIPPED. Run as root on Debian to install them, or install them yourself."
  echo "==================================================================================="
fi
