{{/*
Names and labels. Two releases of a namespace share no name: a release that ends like an object of another one gets "-errand"
behind it, and of a name that is too long a hash remains.
*/}}

{{/* At most 50 characters, so that every suffix fits into 63. */}}
{{- define "errand.name" -}}
{{- $release := .Release.Name -}}
{{- $plain := or (eq $release "errand") (and (hasPrefix "errand-" $release) (not (regexMatch "-(errand|api|worker|dispatcher|metrics|migrate|schedules|targets)$" $release))) -}}
{{- $name := ternary $release (printf "%s-errand" $release) $plain -}}
{{- if gt (len $name) 50 -}}
{{- $name = printf "%s-%s" (trunc 41 $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* The components whose processes serve, with commas. */}}
{{- define "errand.components" -}}
{{- ternary "all" "api,worker,dispatcher" (eq .Values.roles "together") -}}
{{- end }}

{{/* The name of a component's objects: (list $ component). */}}
{{- define "errand.componentName" -}}
{{- $name := include "errand.name" (index . 0) -}}
{{- ternary $name (printf "%s-%s" $name (index . 1)) (eq (index . 1) "all") -}}
{{- end }}

{{- define "errand.labels" -}}
{{ include "errand.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Selects the pods that serve, and not those that migrate. */}}
{{- define "errand.selector" -}}
app.kubernetes.io/name: errand
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "errand.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end }}

{{/* A pod gets this long from SIGTERM to SIGKILL. The deadline of a drain counts from SIGTERM too, delay included; what comes
     after it is the end of statements under way (their timeout and a second) and of connections. */}}
{{- define "errand.graceSeconds" -}}
{{- $statement := 4 -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "ERRAND_STATEMENT_TIMEOUT_SECONDS" -}}{{- $statement = ceil .value -}}{{- end -}}
{{- end -}}
{{- add (ceil .Values.drain.deadlineSeconds) $statement 6 -}}
{{- end }}
