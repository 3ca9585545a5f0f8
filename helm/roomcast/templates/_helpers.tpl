{{/* Names, labels and what several templates share. The checks of what cannot work are in _checks.tpl. */}}

{{- define "roomcast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that the longest name made from it is still a DNS label. */}}
{{- define "roomcast.fullname" -}}
{{- $name := include "roomcast.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 44 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 44 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 44 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "roomcast.redis.fullname" -}}
{{- include "roomcast.fullname" . }}-redis
{{- end }}

{{/* Takes (list $ COMPONENT). The component keeps servers, Redis and test pods out of each other's selectors. */}}
{{- define "roomcast.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "roomcast.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Takes (list $ COMPONENT). */}}
{{- define "roomcast.labels" -}}
{{- $ := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "roomcast.selectorLabels" . }}
app.kubernetes.io/part-of: {{ include "roomcast.name" $ }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes (list $ COMPONENT SUFFIX): name, namespace and labels of an object. */}}
{{- define "roomcast.metadata" -}}
{{- $ := index . 0 -}}
name: {{ include "roomcast.fullname" $ }}{{ index . 2 }}
namespace: {{ $.Release.Namespace }}
labels:
  {{- include "roomcast.labels" (list $ (index . 1)) | nindent 2 }}
{{- end }}

{{- define "roomcast.serviceAccountName" -}}
{{- if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else }}
{{- ternary (include "roomcast.fullname" .) "default" .Values.serviceAccount.create }}
{{- end }}
{{- end }}

{{/* Takes (list $ IMAGE TAG). */}}
{{- define "roomcast.imageName" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ index . 2 }}
{{- end }}
{{- end }}

{{- define "roomcast.image" -}}
{{- include "roomcast.imageName" (list . .Values.image (default .Chart.AppVersion .Values.image.tag)) }}
{{- end }}

{{/* What every pod has: servers, Redis and tests. Takes (list $ PLACE), where PLACE may have a priorityClassName, nodeSelector
and tolerations in place of the general ones. */}}
{{- define "roomcast.podBase" -}}
{{- $place := index . 1 }}
{{- with index . 0 -}}
serviceAccountName: {{ include "roomcast.serviceAccountName" . }}
automountServiceAccountToken: false
# Without this, a Service named roomcast would put ROOMCAST_PORT=tcp://… among the settings.
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default .Values.priorityClassName $place.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with default .Values.nodeSelector $place.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default .Values.tolerations $place.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* A scalar as text. Numbers come from YAML as floats, and large ones would be written as 1e+06. */}}
{{- define "roomcast.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* A quantity of Kubernetes, a size of roomcast or one of Redis as a number, such as 0.5 for "500m" and 1048576 for "1MiB" or
"1mb". */}}
{{- define "roomcast.number" -}}
{{- $text := include "roomcast.text" . }}
{{- $units := dict "" 1 "B" 1 "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 "kb" 1024 "mb" 1048576 "gb" 1073741824 }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- mulf (trimSuffix $unit $text | trim | float64) (get $units $unit | default 1) }}
{{- end }}

{{/* A time in seconds, or in minutes, such as "25s" or "1m", as a number of seconds. */}}
{{- define "roomcast.seconds" -}}
{{- mul (regexFind "^[0-9]+" . | int) (hasSuffix "m" . | ternary 60 1) }}
{{- end }}

{{/* The settings of the server that the chart sets, and the user's. A name in extraEnv replaces: Kubernetes refuses a
name that is there twice. */}}
{{- define "roomcast.env" -}}
{{- $env := list }}
{{- $env = append $env (dict "name" "ROOMCAST_LISTEN" "value" "0.0.0.0:8080") }}
{{- $env = append $env (dict "name" "ROOMCAST_PROBE_LISTEN" "value" "0.0.0.0:8081") }}
{{- $env = append $env (dict "name" "ROOMCAST_ORIGIN_SERVER" "valueFrom" (dict "fieldRef" (dict "apiVersion" "v1" "fieldPath" "metadata.name"))) }}
{{- $env = append $env (dict "name" "ROOMCAST_PAGE" "value" (ternary "on" "off" .Values.page)) }}
{{- $secret := dict }}
{{- if .Values.redis.enabled }}
  {{- $env = append $env (dict "name" "ROOMCAST_REDIS_URL" "value" (printf "redis://%s:6379/0" (include "roomcast.redis.fullname" .))) }}
  {{- $secret = dict "name" (include "roomcast.redis.secretName" .) "key" (include "roomcast.redis.secretKey" .) }}
{{- else if .Values.externalRedis.urlKey }}
  {{- $env = append $env (dict "name" "ROOMCAST_REDIS_URL" "valueFrom" (dict "secretKeyRef" (dict "name" .Values.externalRedis.existingSecret "key" .Values.externalRedis.urlKey))) }}
{{- else if .Values.externalRedis.url }}
  {{- $env = append $env (dict "name" "ROOMCAST_REDIS_URL" "value" .Values.externalRedis.url) }}
  {{- if .Values.externalRedis.passwordKey }}
    {{- $secret = dict "name" .Values.externalRedis.existingSecret "key" .Values.externalRedis.passwordKey }}
  {{- end }}
{{- end }}
{{- if $secret }}
  {{- $env = append $env (dict "name" "ROOMCAST_REDIS_PASSWORD" "valueFrom" (dict "secretKeyRef" $secret)) }}
{{- end }}
{{- if .Values.externalRedis.caSecret }}
  {{- $env = append $env (dict "name" "SSL_CERT_FILE" "value" "/etc/roomcast-redis-ca/ca.crt") }}
{{- end }}
{{- if .Values.externalRedis.certSecret }}
  {{- $env = append $env (dict "name" "ROOMCAST_REDIS_TLS_CERT" "value" "/etc/roomcast-redis-cert/tls.crt") }}
  {{- $env = append $env (dict "name" "ROOMCAST_REDIS_TLS_KEY" "value" "/etc/roomcast-redis-cert/tls.key") }}
{{- end }}
{{- with .Values.auth }}
  {{- range list (list "ROOMCAST_JWT_SECRET_FILE" .secretKey) (list "ROOMCAST_JWT_PUBLIC_KEY_FILE" .publicKeyKey) (list "ROOMCAST_JWKS" .jwksKey) }}
    {{- if index . 1 }}{{ $env = append $env (dict "name" (index . 0) "value" (printf "/etc/roomcast-tokens/%s" (index . 1))) }}{{ end }}
  {{- end }}
  {{- if .jwksUrl }}{{ $env = append $env (dict "name" "ROOMCAST_JWKS" "value" .jwksUrl) }}{{ end }}
  {{- if .audience }}{{ $env = append $env (dict "name" "ROOMCAST_JWT_AUDIENCE" "value" .audience) }}{{ end }}
  {{- if .issuer }}{{ $env = append $env (dict "name" "ROOMCAST_JWT_ISSUER" "value" .issuer) }}{{ end }}
  {{- if or .anonymous.rooms .anonymous.broadcast }}{{ $env = append $env (dict "name" "ROOMCAST_ANONYMOUS" "value" (toJson .anonymous)) }}{{ end }}
{{- end }}
{{- with .Values.api }}
  {{- if .enabled }}{{ $env = append $env (dict "name" "ROOMCAST_API_LISTEN" "value" "0.0.0.0:8082") }}{{ end }}
  {{- if .existingSecret }}{{ $env = append $env (dict "name" "ROOMCAST_API_KEYS_FILE" "value" (printf "/etc/roomcast-api/%s" .secretKey)) }}{{ end }}
{{- end }}
{{- if .Values.trustedProxies }}
  {{- $env = append $env (dict "name" "ROOMCAST_TRUSTED_PROXIES" "value" .Values.trustedProxies) }}
{{- end }}
{{- $env = append $env (dict "name" "ROOMCAST_DRAIN_DELAY" "value" (printf "%vs" .Values.drain.delaySeconds)) }}
{{- $env = append $env (dict "name" "ROOMCAST_DRAIN_TIME" "value" (printf "%vs" .Values.drain.seconds)) }}
{{- $env = append $env (dict "name" "ROOMCAST_SHUTDOWN_TIMEOUT" "value" (printf "%vs" (add .Values.drain.delaySeconds .Values.drain.seconds 5))) }}
{{- if not (hasKey .Values.config "ROOMCAST_LOG_FORMAT") }}
  {{- $env = append $env (dict "name" "ROOMCAST_LOG_FORMAT" "value" "json") }}
{{- end }}
{{- range $name, $value := .Values.config }}
  {{- $env = append $env (dict "name" $name "value" (include "roomcast.text" $value)) }}
{{- end }}
{{- $names := list }}
{{- range .Values.extraEnv }}
  {{- $names = append $names .name }}
{{- end }}
{{- $kept := list }}
{{- range $env }}
  {{- if not (has .name $names) }}{{ $kept = append $kept . }}{{ end }}
{{- end }}
{{- toYaml (concat $kept .Values.extraEnv) }}
{{- end }}

{{/* Whether servers check tokens. */}}
{{- define "roomcast.hasKeys" -}}
{{- with .Values.auth }}{{ if or .secretKey .publicKeyKey .jwksKey .jwksUrl }}true{{ end }}{{ end }}
{{- end }}

{{- define "roomcast.hasRedis" -}}
{{- if or .Values.redis.enabled .Values.externalRedis.url .Values.externalRedis.urlKey }}true{{ end }}
{{- end }}

{{- define "roomcast.redis.secretName" -}}
{{- default (include "roomcast.redis.fullname" .) .Values.redis.auth.existingSecret }}
{{- end }}

{{- define "roomcast.redis.secretKey" -}}
{{- ternary .Values.redis.auth.existingSecretKey "password" (ne .Values.redis.auth.existingSecret "") }}
{{- end }}

{{/* The fewest servers that there will be. */}}
{{- define "roomcast.fewest" -}}
{{- ternary .Values.replicaCount .Values.autoscaling.minReplicas (eq .Values.autoscaling.mode "none") }}
{{- end }}

{{/* The number of servers; empty if it is for an autoscaler to set. A Deployment that loses its number falls back to one
server. So with an autoscaler, the number that is running is written, but only while no autoscaler has set it: Helm 4 would
take it from that one, and a rollback would bring an old number back. Helm 3 takes a number away that is no longer written,
so for it the number is always there. */}}
{{- define "roomcast.replicas" -}}
{{- if eq .Values.autoscaling.mode "none" }}
{{- .Values.replicaCount }}
{{- else }}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace (include "roomcast.fullname" .) }}
{{- with dig "spec" "replicas" 0 ($there | default dict) }}
{{- $isScaled := false }}
{{- range dig "metadata" "managedFields" list $there }}
{{- if eq (toString .subresource) "scale" }}{{ $isScaled = true }}{{ end }}
{{- end }}
{{- if or (not $isScaled) (hasPrefix "v3" $.Capabilities.HelmVersion.Version) }}
{{- max (int .) (int $.Values.autoscaling.minReplicas) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* How the autoscaler moves: up at once, down one server at a time, so that each can send its clients away in peace. */}}
{{- define "roomcast.scalingBehavior" -}}
{{- with .Values.autoscaling.behavior }}
{{- toYaml . }}
{{- else -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Percent
      value: 100
      periodSeconds: 30
    - type: Pods
      value: 2
      periodSeconds: 30
  selectPolicy: Max
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownAfterSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: {{ .Values.autoscaling.scaleDownPeriodSeconds }}
{{- end }}
{{- end }}
