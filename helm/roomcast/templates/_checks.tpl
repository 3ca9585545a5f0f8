{{/* What the schema cannot see: values that are right one by one and cannot work together. Every template that makes a
pod's owner includes this, so that nothing is rendered from such values. */}}

{{- define "roomcast.check" -}}
{{- $wrong := list }}
{{- $v := .Values }}

{{- $servers := $v.replicaCount }}
{{- if ne $v.autoscaling.mode "none" }}{{ $servers = $v.autoscaling.maxReplicas }}{{ end }}
{{- if and (not (include "roomcast.hasRedis" .)) (gt (int $servers) 1) }}
{{- $wrong = append $wrong (printf "%v servers without Redis would not hear each other. Set redis.enabled=true, or externalRedis.url, or have one server: replicaCount=1 and autoscaling.mode=none." $servers) }}
{{- end }}

{{- $external := $v.externalRedis }}
{{- if and $v.redis.enabled (or $external.url $external.urlKey) }}
{{- $wrong = append $wrong "Two Redis are named. With externalRedis.url or externalRedis.urlKey, set redis.enabled=false." }}
{{- end }}
{{- if and $external.url $external.urlKey }}
{{- $wrong = append $wrong "externalRedis.url and externalRedis.urlKey both name the URL. Set one of them." }}
{{- end }}
{{- if and (or $external.urlKey $external.passwordKey) (not $external.existingSecret) }}
{{- $wrong = append $wrong "externalRedis.urlKey and externalRedis.passwordKey are keys in a Secret. Set externalRedis.existingSecret to its name." }}
{{- end }}
{{- if and $external.existingSecret (not (or $external.urlKey $external.passwordKey)) }}
{{- $wrong = append $wrong "externalRedis.existingSecret is set, but not what to take from it. Set externalRedis.passwordKey or externalRedis.urlKey." }}
{{- end }}
{{- if and $external.urlKey $external.passwordKey }}
{{- $wrong = append $wrong "externalRedis.urlKey names a whole URL, with its password. Set externalRedis.passwordKey only beside externalRedis.url." }}
{{- end }}
{{- if and $external.passwordKey (not $external.url) }}
{{- $wrong = append $wrong "externalRedis.passwordKey is set, but not where that Redis is. Set externalRedis.url." }}
{{- end }}
{{- if and $external.url (not (regexMatch "^rediss?://." $external.url)) }}
{{- $wrong = append $wrong "externalRedis.url must start with redis://, or with rediss:// for TLS." }}
{{- end }}
{{- if and $external.caSecret $v.redis.enabled }}
{{- $wrong = append $wrong "externalRedis.caSecret is for a Redis elsewhere. Set redis.enabled=false, and externalRedis.url or externalRedis.urlKey." }}
{{- end }}
{{- if regexMatch "://[^/@]*:[^/]*@" $external.url }}
{{- $wrong = append $wrong "externalRedis.url has a password in it, which everybody who may read the Deployment could see. Leave it out, put it into a Secret, and set externalRedis.existingSecret and externalRedis.passwordKey." }}
{{- end }}

{{- $needs := add $v.drain.preStopSeconds $v.drain.seconds 5 }}
{{- if ge (int $needs) (int $v.drain.gracePeriodSeconds) }}
{{- $wrong = append $wrong (printf "Servers would be killed while they drain: drain.preStopSeconds (%v) + drain.seconds (%v) + 5 is %v, so set drain.gracePeriodSeconds (%v) to more than that." $v.drain.preStopSeconds $v.drain.seconds $needs $v.drain.gracePeriodSeconds) }}
{{- end }}
{{- if and (eq (toString $v.rollout.maxSurge) "0") (eq (toString $v.rollout.maxUnavailable) "0") }}
{{- $wrong = append $wrong "No server could ever be replaced: rollout.maxSurge and rollout.maxUnavailable are both 0. Set one of them to 1." }}
{{- end }}

{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "An HTTPRoute without a Gateway leads nowhere. Set httpRoute.parentRefs, as [{name: NAME, namespace: NAMESPACE}]." }}
{{- end }}
{{- if and (or $v.ingress.enabled $v.httpRoute.enabled) (not $v.paths) }}
{{- $wrong = append $wrong "Nothing would get in: paths is empty. Set at least one, as [{path: /ws, type: Exact}]." }}
{{- end }}

{{- if ne $v.autoscaling.mode "none" }}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) }}
{{- $wrong = append $wrong (printf "autoscaling.minReplicas (%v) is more than autoscaling.maxReplicas (%v)." $v.autoscaling.minReplicas $v.autoscaling.maxReplicas) }}
{{- end }}
{{- if lt (int $v.autoscaling.scaleDownPeriodSeconds) (int $v.drain.seconds) }}
{{- $wrong = append $wrong (printf "The next server would go while one still drains: set autoscaling.scaleDownPeriodSeconds (%v) to at least drain.seconds (%v)." $v.autoscaling.scaleDownPeriodSeconds $v.drain.seconds) }}
{{- end }}
{{- $most := include "roomcast.text" (default 100000 $v.config.ROOMCAST_MAX_CONNECTIONS) }}
{{- if eq $most "auto" }}{{- $most = "100000" }}{{- end }}
{{- if ge (int $v.autoscaling.clientsPerPod) (int $most) }}
{{- $wrong = append $wrong (printf "Servers would be full before another is added: set autoscaling.clientsPerPod (%v) to less than config.ROOMCAST_MAX_CONNECTIONS (%s)." (include "roomcast.text" $v.autoscaling.clientsPerPod) $most) }}
{{- end }}
{{- end }}
{{- if and (eq $v.autoscaling.mode "keda") (not $v.autoscaling.keda.serverAddress) }}
{{- $wrong = append $wrong "KEDA needs the address of a Prometheus. Set autoscaling.keda.serverAddress." }}
{{- end }}

{{- if and $v.page (or $v.ingress.enabled $v.httpRoute.enabled) }}
{{- $isIn := false }}
{{- range $v.paths }}
{{- if eq .type "Prefix" }}{{ $isIn = true }}{{ end }}
{{- end }}
{{- if not $isIn }}
{{- $wrong = append $wrong "The page would come without its files, as paths lets none of them in. Set paths=[{path: /, type: Prefix}], or page=false." }}
{{- end }}
{{- end }}

{{- if gt (trimSuffix "s" $v.serviceMonitor.scrapeTimeout | int) (trimSuffix "s" $v.serviceMonitor.interval | int) }}
{{- $wrong = append $wrong (printf "The Prometheus Operator refuses a serviceMonitor.scrapeTimeout (%s) that is longer than serviceMonitor.interval (%s)." $v.serviceMonitor.scrapeTimeout $v.serviceMonitor.interval) }}
{{- end }}

{{- $owner := dict
  "ROOMCAST_LISTEN" "it is always 0.0.0.0:8080"
  "ROOMCAST_PROBE_LISTEN" "it is always 0.0.0.0:8081"
  "ROOMCAST_ORIGIN_SERVER" "it is the name of the pod"
  "ROOMCAST_PAGE" "set page"
  "ROOMCAST_REDIS_URL" "set redis.enabled or externalRedis"
  "ROOMCAST_REDIS_PASSWORD" "set redis.auth or externalRedis"
  "ROOMCAST_DRAIN_TIME" "set drain.seconds"
  "ROOMCAST_SHUTDOWN_TIMEOUT" "set drain.seconds" }}
{{- range $name, $_ := $v.config }}
{{- with get $owner $name }}
{{- $wrong = append $wrong (printf "config.%s is for the chart to set: %s." $name .) }}
{{- end }}
{{- end }}
{{- $seen := dict }}
{{- range $v.extraEnv }}
{{- if hasKey $seen .name }}
{{- $wrong = append $wrong (printf "extraEnv names %s twice." .name) }}
{{- end }}
{{- $_ := set $seen .name true }}
{{- end }}

{{- if $wrong }}
{{- fail (printf "\n\nThese values cannot work:\n  - %s\n" (join "\n  - " $wrong)) }}
{{- end }}
{{- end }}
