{{/* Takes (dict "root" $ "name" NAME "args" LIST): a pod that runs one of the image's own checks. No selector of servers
meets it, and it passes the same Pod Security Standard as they do. */}}
{{- define "roomcast.testPod" -}}
{{- $ := .root -}}
apiVersion: v1
kind: Pod
metadata:
  {{- include "roomcast.metadata" (list $ "test" (printf "-test-%s" .name)) | nindent 2 }}
  annotations:
    helm.sh/hook: test
    # One that failed stays, to be looked at.
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "roomcast.podBase" (list $ dict) | nindent 2 }}
  restartPolicy: Never
  activeDeadlineSeconds: 120
  containers:
    - name: {{ .name }}
      image: {{ include "roomcast.image" $ }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      args:
        {{- /* Where network policies are enforced, a new pod may get through only after some seconds. */}}
        {{- toYaml (concat (list "check" "--within" "30") .args) | nindent 8 }}
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
          ephemeral-storage: 1Mi
        limits:
          memory: 64Mi
          ephemeral-storage: 16Mi
      securityContext:
        {{- toYaml $.Values.securityContext | nindent 8 }}
{{- end }}
