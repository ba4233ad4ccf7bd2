{{/*
One pod, whoever it is for.
*/}}

{{/* What every container is told: where the stores are, and nothing of what it does. */}}
{{- define "errand.storeEnv" -}}
- name: ERRAND_AUTH
  value: "off"
{{ include "errand.secretEnv" (list "DATABASE_URL" .Values.database.url) }}
{{- with .Values.database.direct }}{{ if .secret }}
{{ include "errand.secretEnv" (list "ERRAND_DIRECT_DATABASE_URL" .) }}
{{- end }}{{ end }}
{{- with .Values.database.pooler.mode }}
- name: ERRAND_POOLER
  value: {{ . }}
{{- end }}
{{- end }}

{{- define "errand.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 1).secret | quote }}
      key: {{ (index . 1).key | quote }}
{{- end }}

{{/* What all pods of the chart have in common. */}}
{{- define "errand.podSpec" -}}
automountServiceAccountToken: false
# Kubernetes would tell pods of every Service in ERRAND_… variables, and Errand refuses settings it does not know.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all containers have in common. Errand writes no files, so nothing needs to be writable. */}}
{{- define "errand.container" -}}
image: {{ include "errand.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}
