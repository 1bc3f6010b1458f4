#!/bin/sh
# Install one lock into a virtual environment: install.sh PYTHON ENVIRONMENT LOCK WHAT_FOR
#
# The environment's stamps say that an installation was finished. One without a stamp is half made, by Ctrl-C, a full disk
# or a Python without pip, and pip would take its broken packages for installed: it is made anew.
set -eu
python=$1 environment=$2 lock=$3 what_for=$4
stamps="$environment/.installed $environment/.runtime"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1

fail() {
  echo "$1" >&2
  exit 1
}

is_finished() {
  for stamp in $stamps; do
    [ ! -e "$stamp" ] || return 0
  done
  return 1
}

# The environment's own pip, or the system's where Debian's Python came without the package python3-venv.
pip() {
  if "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    "$environment/bin/python" -m pip "$@"
  else
    "$python" -m pip --python "$environment/bin/python" "$@"
  fi
}

make_environment() {
  [ ! -e "$environment" ] || [ -e "$environment/pyvenv.cfg" ] || [ "$(basename "$environment")" = .venv ] \
    || fail "$environment is no virtual environment; remove it, or name another one: make VENV=..."
  rm -rf "$environment"
  "$python" -m venv "$environment" >/dev/null 2>&1 || "$python" -m venv --clear --without-pip "$environment" || true
  if ! pip --version >/dev/null 2>&1; then
    rm -rf "$environment"
    fail "This Python has no pip. On Debian: apt-get install python3-venv; then the same command again."
  fi
}

# What pip says, in one line for each stage; on a terminal also how far it is.
show_progress() {
  fetched=0
  while read -r word rest; do
    case $word in
      Collecting)
        fetched=$((fetched + 1))
        [ ! -t 1 ] || printf '\r  fetching %s of %s ' "$fetched" "$packages"
        ;;
      Installing)
        [ ! -t 1 ] || printf '\n'
        echo "  unpacking $(echo "$rest" | tr ',' '\n' | grep -c .) packages"
        ;;
    esac
  done
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "Storekeep needs Python 3.11 or later: on Debian apt-get install python3-venv, or make PYTHON=python3.12 ..."
packages=$(grep -c '^[a-z0-9]' "$lock" || true)
echo "Installing $what_for into $environment; the first time takes some minutes."
if is_finished; then
  # shellcheck disable=SC2086 # two paths
  rm -f $stamps
  "$environment/bin/python" -c '' 2>/dev/null && pip --version >/dev/null 2>&1 || make_environment
else
  make_environment
fi
[ -t 1 ] || echo "  fetching $packages packages"
failed="$environment/.failed" said="$environment/pip.log"
rm -f "$failed"
{ pip install --no-color --progress-bar off --require-hashes -r "$lock" 2>"$said" || touch "$failed"; } | show_progress
if [ -e "$failed" ]; then
  cat "$said" >&2
  fail "Not all packages could be installed; pip says above why. The same command tries again."
fi
pip install --quiet --no-deps --no-build-isolation --editable .
