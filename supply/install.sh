#!/bin/sh
# Install one lock into a virtual environment: install.sh PYTHON ENVIRONMENT LOCK WHAT_FOR
#
# A stamp file in the environment marks a finished installation. Without a stamp, an earlier installation was interrupted
# (Ctrl-C, full disk, Python without pip) and pip would accept its broken packages, so the environment is recreated.
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

# Run the environment's pip, or the system's if Debian's Python lacks the package python3-venv.
pip() {
  if "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    "$environment/bin/python" -m pip "$@"
  else
    "$python" -m pip --python "$environment/bin/python" "$@"
  fi
}

make_environment() {
  [ ! -e "$environment" ] || [ -e "$environment/pyvenv.cfg" ] || [ "$(basename "$environment")" = .venv ] \
    || fail "$environment is not a virtual environment. Remove it, or use another one: make VENV=..."
  rm -rf "$environment"
  "$python" -m venv "$environment" >/dev/null 2>&1 || "$python" -m venv --clear --without-pip "$environment" || true
  if ! pip --version >/dev/null 2>&1; then
    rm -rf "$environment"
    fail "This Python has no pip. On Debian, run apt-get install python3-venv, then repeat the command."
  fi
}

# Print one line for each stage of pip's output, and on a terminal the number of fetched packages.
show_progress() {
  fetched=0
  while read -r word rest; do
    case $word in
      Collecting)
        fetched=$((fetched + 1))
        [ ! -t 1 ] || printf '\r  downloading %s of %s ' "$fetched" "$packages"
        ;;
      Installing)
        [ ! -t 1 ] || printf '\n'
        echo "  installing $(echo "$rest" | tr ',' '\n' | grep -c .) packages"
        ;;
    esac
  done
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "Storekeep needs Python 3.11 or later. On Debian, run apt-get install python3-venv, or use make PYTHON=python3.12 ..."
packages=$(grep -c '^[a-z0-9]' "$lock" || true)
echo "Installing $what_for into $environment. The first time takes a few minutes."
if is_finished; then
  # shellcheck disable=SC2086 # two paths
  rm -f $stamps
  "$environment/bin/python" -c '' 2>/dev/null && pip --version >/dev/null 2>&1 || make_environment
else
  make_environment
fi
[ -t 1 ] || echo "  downloading $packages packages"
failed="$environment/.failed" log="$environment/pip.log"
rm -f "$failed"
{ pip install --no-color --progress-bar off --require-hashes -r "$lock" 2>"$log" || touch "$failed"; } | show_progress
if [ -e "$failed" ]; then
  cat "$log" >&2
  fail "Some packages could not be installed; see pip's output above. Repeat the command to try again."
fi
pip install --quiet --no-deps --no-build-isolation --editable .
# Compile Storekeep here: where containers turn bytecode off, each command would compile it anew, for 0.1 s of CPU.
for root in clients generated server; do
  [ ! -d "$root" ] || "$environment/bin/python" -m compileall -q "$root"
done
