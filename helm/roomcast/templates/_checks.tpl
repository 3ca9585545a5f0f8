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
{{- if and $external.certSecret (or $v.redis.enabled (and $external.url (not (hasPrefix "rediss://" $external.url)))) }}
{{- $wrong = append $wrong "externalRedis.certSecret is for a Redis elsewhere, with TLS. Set redis.enabled=false, and an externalRedis.url that begins with rediss://." }}
{{- end }}
{{- if and $external.caSecret $v.redis.enabled }}
{{- $wrong = append $wrong "externalRedis.caSecret is for a Redis elsewhere. Set redis.enabled=false, and externalRedis.url or externalRedis.urlKey." }}
{{- end }}
{{- if regexMatch "://[^/@]*:[^/]*@" $external.url }}
{{- $wrong = append $wrong "externalRedis.url has a password in it, which everybody who may read the Deployment could see. Leave it out, put it into a Secret, and set externalRedis.existingSecret and externalRedis.passwordKey." }}
{{- end }}

{{- $parts := list (list "resources" $v.resources) }}
{{- if $v.redis.enabled }}{{ $parts = append $parts (list "redis.resources" $v.redis.resources) }}{{ end }}
{{- range $parts }}
{{- $name := index . 0 }}
{{- $resources := index . 1 }}
{{- range $what, $request := $resources.requests | default dict }}
{{- $limit := get ($resources.limits | default dict) $what }}
{{- if and $request $limit (gt (include "roomcast.number" $request | float64) (include "roomcast.number" $limit | float64)) }}
{{- $wrong = append $wrong (printf "%s.requests.%s (%v) is more than %s.limits.%s (%v), which Kubernetes refuses." $name $what $request $name $what $limit) }}
{{- end }}
{{- end }}
{{- end }}

{{- $most := include "roomcast.text" (default "auto" $v.config.ROOMCAST_MAX_CONNECTIONS) }}
{{- if eq $most "auto" }}{{ $most = "100000" }}{{ end }}

{{- $limit := dig "limits" "memory" "" $v.resources }}
{{- /* What comes by envFrom cannot be known here. */}}
{{- if and $limit (not $v.envFrom) }}
{{- $bytes := addf 67108864 (mulf 8192 (float64 $most)) }}
{{- $sizes := dict "OUTBOX_TOTAL_BYTES" "256MiB" "INBOUND_TOTAL_BYTES" "64MiB" "RECENT_BYTES" "64MiB" }}
{{- if not (include "roomcast.hasRedis" .) }}{{ $_ := set $sizes "MEMORY_BROKER_BYTES" "256MiB" }}{{ end }}
{{- range $name, $default := $sizes }}
{{- $bytes = addf $bytes (include "roomcast.number" (get $v.config (printf "ROOMCAST_%s" $name) | default $default) | float64) }}
{{- end }}
{{- if gt $bytes (include "roomcast.number" $limit | float64) }}
{{- $wrong = append $wrong (printf "resources.limits.memory (%v) does not hold what the settings allow: 64 MiB, 8 KiB for each of ROOMCAST_MAX_CONNECTIONS (%s), and ROOMCAST_OUTBOX_TOTAL_BYTES, ROOMCAST_INBOUND_TOTAL_BYTES, ROOMCAST_RECENT_BYTES and, without Redis, ROOMCAST_MEMORY_BROKER_BYTES. Set it to at least %dMi, or lower them." $limit $most (divf $bytes 1048576 | ceil | int)) }}
{{- end }}
{{- end }}

{{- if $v.redis.enabled }}
{{- with dig "limits" "memory" "" $v.redis.resources }}
{{- if ge (include "roomcast.number" $v.redis.maxmemory | float64) (include "roomcast.number" . | float64) }}
{{- $wrong = append $wrong (printf "Redis would be killed before it is full: set redis.maxmemory (%s) to about 70 %% of redis.resources.limits.memory (%v)." $v.redis.maxmemory .) }}
{{- end }}
{{- end }}
{{- range regexFindAll "(?m)^\\s*maxmemory-policy\\s+\\S+" $v.redis.config -1 }}
{{- if not (regexMatch "noeviction$" .) }}
{{- $wrong = append $wrong (printf "redis.config has %q, with which a full Redis deletes the logs of rooms. Leave it out; servers refuse new rooms instead." (trim .)) }}
{{- end }}
{{- end }}
{{- end }}

{{- $ping := $v.config.ROOMCAST_PING_INTERVAL | default "25s" | toString }}
{{- if and $v.ingress.enabled (regexMatch "^[0-9]+ *(s|m)$" $ping) }}
{{- if le (int $v.ingress.timeoutSeconds) (include "roomcast.seconds" $ping | int) }}
{{- $wrong = append $wrong (printf "The ingress would close quiet clients: set ingress.timeoutSeconds (%v) to more than ROOMCAST_PING_INTERVAL (%s)." $v.ingress.timeoutSeconds $ping) }}
{{- end }}
{{- end }}

{{- $needs := add $v.drain.delaySeconds $v.drain.seconds 5 }}
{{- if ge (int $needs) (int $v.drain.gracePeriodSeconds) }}
{{- $wrong = append $wrong (printf "Servers would be killed while they drain: drain.delaySeconds (%v) + drain.seconds (%v) + 5 is %v, so set drain.gracePeriodSeconds (%v) to more than that." $v.drain.delaySeconds $v.drain.seconds $needs $v.drain.gracePeriodSeconds) }}
{{- end }}
{{- $notices := mul $v.probes.readiness.periodSeconds $v.probes.readiness.failureThreshold }}
{{- if and $v.drain.delaySeconds (le (int $v.drain.delaySeconds) (int $notices)) }}
{{- $wrong = append $wrong (printf "Clients would be sent away before anybody knows that their server ends: probes.readiness needs %v seconds (periodSeconds × failureThreshold) to notice, so set drain.delaySeconds (%v) to more than that." $notices $v.drain.delaySeconds) }}
{{- end }}
{{- if and (has (toString $v.rollout.maxSurge) (list "0" "0%")) (has (toString $v.rollout.maxUnavailable) (list "0" "0%")) }}
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
{{- $drained := add $v.drain.delaySeconds $v.drain.seconds }}
{{- if lt (int $v.autoscaling.scaleDownPeriodSeconds) (int $drained) }}
{{- $wrong = append $wrong (printf "The next server would go while one still drains: set autoscaling.scaleDownPeriodSeconds (%v) to at least drain.delaySeconds + drain.seconds (%v)." $v.autoscaling.scaleDownPeriodSeconds $drained) }}
{{- end }}
{{- if ge (int $v.autoscaling.clientsPerPod) (int $most) }}
{{- $wrong = append $wrong (printf "Servers would be full before another is added: set autoscaling.clientsPerPod (%v) to less than config.ROOMCAST_MAX_CONNECTIONS (%s)." (include "roomcast.text" $v.autoscaling.clientsPerPod) $most) }}
{{- end }}
{{- end }}
{{- if and (eq $v.autoscaling.mode "keda") $v.autoscaling.clientsPerPod (not $v.autoscaling.keda.serverAddress) }}
{{- $wrong = append $wrong "KEDA needs the address of a Prometheus. Set autoscaling.keda.serverAddress." }}
{{- end }}
{{- if and (ne $v.autoscaling.mode "none") (not (or $v.autoscaling.clientsPerPod $v.autoscaling.cpuPercent $v.autoscaling.memoryPercent)) }}
{{- $wrong = append $wrong "The autoscaler has nothing to go by. Set autoscaling.clientsPerPod, cpuPercent or memoryPercent." }}
{{- end }}
{{- if and (ne $v.autoscaling.mode "none") $v.autoscaling.cpuPercent (not (dig "requests" "cpu" "" $v.resources)) }}
{{- $wrong = append $wrong "autoscaling.cpuPercent is in percent of the request. Set resources.requests.cpu." }}
{{- end }}

{{- if and $v.page (or $v.ingress.enabled $v.httpRoute.enabled) }}
{{- $isIn := false }}
{{- range $v.paths }}
{{- if and (eq .type "Prefix") (eq .path "/") }}{{ $isIn = true }}{{ end }}
{{- end }}
{{- if not $isIn }}
{{- $wrong = append $wrong "The page would come without its files, as paths lets none of them in. Set paths=[{path: /, type: Prefix}], or page=false." }}
{{- end }}
{{- end }}

{{- $timeout := include "roomcast.seconds" (get $v.serviceMonitor "scrapeTimeout") | int }}
{{- if gt $timeout (include "roomcast.seconds" (get $v.serviceMonitor "interval") | int) }}
{{- $wrong = append $wrong (printf "The Prometheus Operator refuses a serviceMonitor.scrapeTimeout (%s) that is longer than serviceMonitor.interval (%s)." $v.serviceMonitor.scrapeTimeout $v.serviceMonitor.interval) }}
{{- end }}

{{- with $v.auth }}
{{- $keys := compact (list .secretKey .publicKeyKey .jwksKey) }}
{{- if and $keys (not .existingSecret) }}
{{- $wrong = append $wrong "auth names keys of a Secret, but not the Secret. Set auth.existingSecret." }}
{{- end }}
{{- if and .existingSecret (not $keys) }}
{{- $wrong = append $wrong "auth.existingSecret is set, but no key in it. Set auth.secretKey, auth.publicKeyKey or auth.jwksKey." }}
{{- end }}
{{- if and .jwksKey .jwksUrl }}
{{- $wrong = append $wrong "auth.jwksKey and auth.jwksUrl are both set. Set one of them." }}
{{- end }}
{{- $needsAudience := contains "aud" (get $v.config "ROOMCAST_JWT_REQUIRED_CLAIMS" | default "exp,aud,iat") }}
{{- if and (or $keys .jwksUrl) (not .audience) $needsAudience }}
{{- $wrong = append $wrong "Tokens must name whom they are for. Set auth.audience to what your issuer writes into aud." }}
{{- end }}
{{- if and (or .audience .issuer) (not $keys) (not .jwksUrl) }}
{{- $wrong = append $wrong "auth.audience and auth.issuer are for tokens, but there is no key to check them with. Set auth.existingSecret or auth.jwksUrl." }}
{{- end }}
{{- end }}

{{- if and $v.api.existingSecret (not $v.api.enabled) }}
{{- $wrong = append $wrong "api.existingSecret has keys for an API that is off. Set api.enabled=true." }}
{{- end }}
{{- if and $v.api.enabled (not $v.api.existingSecret) (not (include "roomcast.hasKeys" .)) }}
{{- $wrong = append $wrong "Nobody could call the API. Set api.existingSecret." }}
{{- end }}

{{- $owner := dict
  "ROOMCAST_API_LISTEN" "set api.enabled"
  "ROOMCAST_API_KEYS" "set api.existingSecret"
  "ROOMCAST_API_KEYS_FILE" "set api.existingSecret"
  "ROOMCAST_LISTEN" "it is always 0.0.0.0:8080"
  "ROOMCAST_PROBE_LISTEN" "it is always 0.0.0.0:8081"
  "ROOMCAST_ORIGIN_SERVER" "it is the name of the pod"
  "ROOMCAST_PAGE" "set page"
  "ROOMCAST_REDIS_URL" "set redis.enabled or externalRedis"
  "ROOMCAST_REDIS_PASSWORD" "set redis.auth or externalRedis"
  "ROOMCAST_JWT_SECRET" "set auth.existingSecret and auth.secretKey"
  "ROOMCAST_JWT_SECRET_FILE" "set auth.existingSecret and auth.secretKey"
  "ROOMCAST_JWT_PUBLIC_KEY_FILE" "set auth.existingSecret and auth.publicKeyKey"
  "ROOMCAST_JWKS" "set auth.jwksUrl, or auth.existingSecret and auth.jwksKey"
  "ROOMCAST_JWT_AUDIENCE" "set auth.audience"
  "ROOMCAST_JWT_ISSUER" "set auth.issuer"
  "ROOMCAST_ANONYMOUS" "set auth.anonymous"
  "ROOMCAST_TRUSTED_PROXIES" "set trustedProxies"
  "ROOMCAST_DRAIN_DELAY" "set drain.delaySeconds"
  "ROOMCAST_DRAIN_TIME" "set drain.seconds"
  "ROOMCAST_SHUTDOWN_TIMEOUT" "set drain.seconds" }}
{{- range $name, $_ := $v.config }}
{{- with get $owner $name }}
{{- $wrong = append $wrong (printf "config.%s is for the chart to set: %s." $name .) }}
{{- end }}
{{- end }}
{{- $seen := dict }}
{{- range $v.extraEnv }}
{{- if has .name (list "ROOMCAST_LISTEN" "ROOMCAST_PROBE_LISTEN" "ROOMCAST_API_LISTEN") }}
{{- $wrong = append $wrong (printf "extraEnv must not set %s: the Service and the probes would not find the server." .name) }}
{{- end }}
{{- if hasKey $seen .name }}
{{- $wrong = append $wrong (printf "extraEnv names %s twice." .name) }}
{{- end }}
{{- $_ := set $seen .name true }}
{{- end }}

{{- if $wrong }}
{{- fail (printf "\n\nThese values cannot work:\n  - %s\n" (join "\n  - " $wrong)) }}
{{- end }}
{{- end }}
