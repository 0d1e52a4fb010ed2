#!/usr/bin/env bash
# Takes the overlay `local` through its life in the cluster that kubectl reaches: apply, a demo, a new version under traffic,
# killed pods, a drained node, KEDA if it is there, delete. The namespace forebay must not exist before, and does not afterwards.
# The cluster needs the images of infra/k8s/base/version.env, and for the new version those of NEXT_VERSION.
# Usage: NEXT_VERSION=0.1.1 run.sh
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=infra/k8s/test
work=target/k8s-test
namespace=forebay
next=${NEXT_VERSION:-}
sent=0
# The SHA-256 of an empty body, which S3 asks for and not every curl sends.
nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
started=$SECONDS

if ! command -v kubectl >/dev/null || ! kubectl version --request-timeout=5s >/dev/null 2>&1; then
  echo "SKIPPED: k8s-test needs a cluster that kubectl reaches (KUBECONFIG); kind or k3d will do"
  exit 0
fi
if kubectl get namespace "$namespace" >/dev/null 2>&1; then
  echo "the namespace $namespace exists already; this test would delete it" >&2
  exit 1
fi

k() { kubectl --namespace "$namespace" "$@"; }
say() { printf '%4d s  %s\n' $((SECONDS - started)) "$*"; }
fail() {
  say "FAILED: $*"
  k get pods,jobs -o wide || true
  k get events --sort-by=.lastTimestamp | tail -n 20 || true
  exit 1
}
has_keda() { kubectl get crd scaledobjects.keda.sh >/dev/null 2>&1; }

# Calls a function that only operators call, through the API server: invoke FUNCTION REQUEST
invoke() {
  local pod
  pod=$(k get pods -l "app.kubernetes.io/name=$1" --field-selector=status.phase=Running -o name | head -n 1)
  through "$pod" 8080 "2015-03-31/functions/$1/invocations" --data "$2"
}

# An HTTP request to a port in the cluster: through POD_OR_SERVICE PORT PATH CURL_ARGUMENT…
through() {
  local target=$1 port=$2 path=$3 forward answer=1
  shift 3
  # What the one before wrote must not be taken for this one's.
  : >"$work/port-forward.log"
  # Not through k: a function in the background is a shell of its own, and killing that leaves kubectl behind.
  kubectl --namespace "$namespace" port-forward "$target" "18999:$port" >"$work/port-forward.log" 2>&1 &
  forward=$!
  for _ in $(seq 50); do
    grep -q Forwarding "$work/port-forward.log" && break
    sleep 0.2
  done
  curl --silent --show-error --max-time 60 "http://127.0.0.1:18999/$path" "$@" && answer=0
  kill $forward 2>/dev/null
  wait $forward 2>/dev/null || true
  return $answer
}

apply() { kubectl apply -k "$work" >"$work/apply.log" 2>&1 || fail "apply: $(grep -v -E 'configured|created|unchanged' "$work/apply.log")"; }
job_done() {
  local job
  job=maintainer-$(sed -n 's/^version=//p' "$work/k8s/base/version.env")
  k wait "job/$job" --for=condition=complete --timeout=300s >/dev/null || fail "the Job $job did not end"
}
rolled_out() {
  local deployment
  for deployment in $(k get deployments -o name); do
    k rollout status "$deployment" --timeout=300s >/dev/null || fail "$deployment does not become ready"
  done
}

# Starts a client: load RUN SECONDS WORKERS
load() {
  sed -e "s/RUN/$1/g; s/SECONDS_LONG/$2/; s/WORKERS/$3/; s#IMAGE#$(k get deployment postgres -o jsonpath='{..image}')#" $here/load.yaml |
    k apply -f - >/dev/null
}

# Waits for a client, counts the events that ingest has taken, and prints how the calls ended: ended RUN
ended() {
  k wait "job/load-$1" --for=condition=complete --timeout=300s >/dev/null || fail "the client $1 did not end"
  k logs "job/load-$1" >"$work/$1.log"
  accepted=$(grep -c '^202$' "$work/$1.log" || true)
  lost=$(grep -vc '^202$' "$work/$1.log" || true)
  sent=$((sent + accepted))
  say "$1: $accepted calls accepted, $lost not$(grep -v '^202$' "$work/$1.log" | sort | uniq -c | tr -s ' \n' ' ')"
}

outcomes() { k exec deployment/postgres -- psql -At -U forebay -c 'SELECT count(*) FROM record_outcomes'; }
# The names of the archive's objects, a thousand at a time.
archive_names() {
  local after='' keys
  while keys=$(archive_page "$after") && [ -n "$keys" ]; do
    echo "$keys"
    after=$(tail -n 1 <<<"$keys" | sed 's/=/%3D/g; s#/#%2F#g')
  done
}
archive_page() {
  through service/s3 8014 "forebay-archive?list-type=2&max-keys=1000&prefix=raw%2F&start-after=$1" \
    -H "x-amz-content-sha256: $nothing" --aws-sigv4 aws:amz:us-east-1:s3 --user local:local | grep -o '<Key>[^<]*' | sed 's/<Key>//'
}
archived() { archive_names | python3 $here/archived.py; }

# Every event that was accepted has its outcome and is in the archive, and the ledger has no hole.
accounted() {
  local found=0 stored=0 answer
  for _ in $(seq 60); do
    found=$(outcomes) stored=$(archived || echo 0)
    [ "$found" -ge "$sent" ] && [ "$stored" -ge "$sent" ] && break
    sleep 2
  done
  answer=$(invoke maintainer '{"action":"reconcile"}')
  say "$1: $sent accepted, $found with an outcome, $stored archived, $(grep -o '"unaccounted":[0-9]*' <<<"$answer" | tail -n 1)"
  # A call without an answer may have been accepted, so there may be more.
  [ "$found" -ge "$sent" ] || fail "outcomes are missing"
  [ "$stored" -ge "$sent" ] || fail "records are missing in the archive"
  grep -q '"unaccounted":0' <<<"$answer" || fail "the ledger has holes: $answer"
}

replicas() { k get deployment processor -o jsonpath='{.status.replicas}'; }

prepare() {
  rm -rf "$work"
  mkdir -p "$work"
  cp -r infra/k8s "$work/k8s"
  cp $here/client.yaml "$work/"
  # Small batches, so that a backlog lasts long enough for KEDA to see it.
  sed 's/"BatchSize": [0-9]*/"BatchSize": 5/' infra/k8s/base/mappings/processor.json >"$work/processor.json"
  cat >"$work/kustomization.yaml" <<Y
namespace: $namespace
resources: [k8s/overlays/local, client.yaml]
configMapGenerator:
  - {name: settings, behavior: merge, literals: [API_KEY_RATE_LIMIT_PER_MIN=10000000, IP_RATE_LIMIT_PER_MIN=0]}
  - {name: settings-at-deploy, behavior: merge, options: {disableNameSuffixHash: true}, literals: [API_KEY_RATE_LIMIT_PER_MIN=10000000, IP_RATE_LIMIT_PER_MIN=0]}
  - {name: mappings, behavior: merge, files: [processor.json]}
  - {name: load, files: [k8s/test/load.sh], options: {disableNameSuffixHash: true}}
Y
  if has_keda; then
    cat >>"$work/kustomization.yaml" <<Y
components: [k8s/components/keda]
secretGenerator:
  - {name: keda-kafka, options: {disableNameSuffixHash: true}, literals: [tls=disable, sasl=none, username=none, password=none]}
patches:
  - target: {kind: ScaledObject}
    patch: |
      - {op: replace, path: /spec/pollingInterval, value: 5}
      - {op: add, path: /spec/advanced, value: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 20}}}}}
Y
  fi
}

start() {
  say "apply"
  apply
  job_done
  rolled_out
  say "all pods are ready, and the Job at deploy is done"
  local key
  key=$(invoke maintainer '{"action":"create-key","by":"k8s-test","tenant":"test","name":"k8s-test","kind":"server","scopes":["write","read"]}' |
    sed -n 's/.*"key":"\([^"]*\)".*/\1/p')
  [ -n "$key" ] || fail "maintainer gave no key"
  k create secret generic load --from-literal=key="$key" >/dev/null
  load demo 10 4
  ended demo
  accounted demo
  through service/query 80 "events/demo-1-1" -H "x-api-key: $key" | grep -q '"status":"valid"' || fail "query does not know the event demo-1-1"
}

new_version() {
  load version 60 4
  sleep 5
  if [ -n "$next" ]; then
    # What a user does.
    sed -i "s/^version=.*/version=$next/" "$work/k8s/base/version.env"
    apply
    job_done
  else
    echo "SKIPPED: NEXT_VERSION names no version whose images the cluster has; the pods are restarted instead"
    k rollout restart deployment -l app.kubernetes.io/part-of=forebay >/dev/null
  fi
  rolled_out
  say "rolled out${next:+ $next}"
  ended version
  [ "$lost" -eq 0 ] || fail "calls were lost"
  accounted version
}

kill_pods() {
  load kills 30 4
  local name
  for name in processor archiver-raw archiver-outcomes scorer processor ingest; do
    sleep 4
    k delete pod -l "app.kubernetes.io/name=$name" --force --grace-period=0 >/dev/null 2>&1
  done
  rolled_out
  ended kills
  accounted kills
}

drain() {
  local node
  node=$(k get pods -l app.kubernetes.io/name=processor -o jsonpath='{.items[0].spec.nodeName}')
  load drain 40 4
  sleep 5
  kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --pod-selector=app.kubernetes.io/part-of=forebay --timeout=240s \
    >"$work/drain.log" 2>&1 || { kubectl uncordon "$node" >/dev/null; fail "drain: $(tail -n 3 "$work/drain.log")"; }
  kubectl uncordon "$node" >/dev/null
  say "drained $node"
  rolled_out
  ended drain
  accounted drain
}

keda() {
  if ! has_keda; then
    echo "SKIPPED: KEDA is not in this cluster"
    return
  fi
  k annotate scaledobject processor autoscaling.keda.sh/paused-replicas=0 >/dev/null
  k wait deployment/processor --for=jsonpath='{.spec.replicas}'=0 --timeout=60s >/dev/null || fail "KEDA did not pause"
  local before
  before=$(($(outcomes) + 10000))
  while [ "$sent" -lt "$before" ]; do
    load "backlog-$sent" 20 8
    ended "backlog-$sent"
  done
  say "$((sent - before + 10000)) records wait"
  k annotate scaledobject processor autoscaling.keda.sh/paused-replicas- >/dev/null
  local most=0 now=0 last=0
  for _ in $(seq 180); do
    now=$(replicas)
    [ "$now" -ne "$last" ] && say "processor: $now pods"
    last=$now
    [ "$now" -gt "$most" ] && most=$now
    [ "$most" -gt 1 ] && [ "$now" -eq 1 ] && break
    sleep 1
  done
  [ "$most" -ge 3 ] || fail "KEDA brought only $most pods"
  [ "$now" -eq 1 ] || fail "KEDA did not go back to one pod"
  accounted keda
}

end() {
  kubectl delete -k "$work" --timeout=300s >"$work/delete.log" 2>&1 || fail "delete: $(tail -n 3 "$work/delete.log")"
  kubectl wait --for=delete "namespace/$namespace" --timeout=120s >/dev/null 2>&1 || true
  kubectl get namespace "$namespace" >/dev/null 2>&1 && fail "the namespace is still there"
  local left
  left=$(kubectl get all,pdb,hpa,networkpolicy,configmap,secret,persistentvolumeclaim -A -l app.kubernetes.io/part-of=forebay -o name)
  [ -z "$left" ] || fail "left behind: $left"
  say "deleted; nothing is left"
}

prepare
start
new_version
kill_pods
drain
keda
end
say "passed"
