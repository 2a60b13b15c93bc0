#!/usr/bin/env bash
# Makes the environments of the peers: DIR/sb3, DIR/rejax, DIR/vw and DIR/rllib. DIR is .peers in the project unless it is given.
# The pins are for Python 3.11; PYTHON names another interpreter than python3.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
dir="${1:-$here/../../.peers}"
python="${PYTHON:-python3}"

for peer in sb3 rejax vw rllib; do
    "$python" -m venv "$dir/$peer"
    "$dir/$peer/bin/python" -m pip install --quiet --requirement "$here/requirements-$peer.txt"
    if [ "$peer" = sb3 ]; then  # its Atari games
        "$dir/$peer/bin/python" -m pip install --quiet ale-py==0.12.1 opencv-python-headless==5.0.0.93
    fi
    echo "$peer: $dir/$peer/bin/python"
done
