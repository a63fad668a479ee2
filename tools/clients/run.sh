#!/usr/bin/env bash
# Installs the official clients and runs them against the given program. Prints a table; fails if a check fails.
set -uo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")"
work=${2:-$(mktemp -d)}
[ -x "$work/venv/bin/pip" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q -r requirements.txt
cp package.json clients.mjs "$work/" && (cd "$work" && npm install --silent --no-audit --no-fund)
"$program" serve mini --port 0 --log off 2> "$work/log" &
server=$!
trap 'kill $server' EXIT
until grep -q "listening on" "$work/log"; do sleep 0.1; done
base=$(sed -n 's/^listening on //p' "$work/log")
until curl -sf "$base/health" > /dev/null; do sleep 0.2; done
failed=0
echo "| client | what | result |"
echo "|---|---|---|"
"$work/venv/bin/python" clients.py "$base" || failed=1
(cd "$work" && node clients.mjs "$base") || failed=1
lm() {
  what=$1 model=$2 url=$3 check=$4 more=$5
  args="model=mini,base_url=$base$url,num_concurrent=4,max_retries=1$more"
  version=$("$work/venv/bin/pip" show lm-eval | sed -n 's/^Version: //p')
  if HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 OPENAI_API_KEY=none "$work/venv/bin/python" lm_eval_check.py "$check" "$model" "$args" > "$work/lm.log" 2>&1; then
    echo "| lm-eval $version | $what | ok |"
  else
    echo "| lm-eval $version | $what | FAILED: $(tail -1 "$work/lm.log") |"; failed=1
  fi
}
plain=,tokenizer_backend=None,tokenized_requests=False
lm "local-completions: generate_until" local-completions /v1/completions generate "$plain"
lm "local-completions: loglikelihood and loglikelihood_rolling" local-completions /v1/completions loglikelihood ""
lm "local-completions: a task of multiple choices" local-completions /v1/completions task ""
lm "local-chat-completions: generate_until" local-chat-completions /v1/chat/completions generate "$plain"
exit $failed
