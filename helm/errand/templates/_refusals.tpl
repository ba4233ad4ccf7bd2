{{/*
Values that can be written and cannot work, each refused with what to do. Unknown names and wrong kinds are refused before
that, by values.schema.json.
*/}}
{{- define "errand.refusals" -}}
{{- $values := .Values -}}
{{- if eq (toString $values.auth) "" -}}
{{- fail "auth is not set: Errand does not authenticate callers yet, and whoever reaches its port may submit, read and cancel any job; say auth=off if only callers you trust can reach it (networkPolicy.from)" -}}
{{- end -}}
{{- if not $values.database.url.secret -}}
{{- fail "database.url.secret is not set: name a Secret of this namespace that holds the address of Postgres under the key of database.url.key (kubectl create secret generic errand-database --from-literal=DATABASE_URL=postgres://…)" -}}
{{- end -}}
{{- if and $values.database.pooler.mode (not $values.database.direct.secret) -}}
{{- fail "database.direct.secret is not set: with database.pooler.mode migrations and LISTEN need an address that leads past the pooler" -}}
{{- end -}}
{{- if lt (float64 $values.drain.deadlineSeconds) (add1f (float64 $values.drain.delaySeconds)) -}}
{{- fail (printf "drain.deadlineSeconds %v must be at least a second more than drain.delaySeconds %v: it counts from SIGTERM and includes it" $values.drain.deadlineSeconds $values.drain.delaySeconds) -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.host) -}}
{{- fail "ingress.host is not set: without one the Ingress would answer for every host of the controller" -}}
{{- end -}}
{{- if and $values.serviceMonitor.alerts (not $values.serviceMonitor.enabled) -}}
{{- fail "serviceMonitor.alerts needs serviceMonitor.enabled: the alerts go by the labels that its series have" -}}
{{- end -}}
{{- if $values.schedules -}}
{{- $file := fromYaml $values.schedules -}}
{{- if or (ne (join "," (keys $file)) "schedules") (not (kindIs "slice" $file.schedules)) -}}
{{- fail (printf "schedules is not the text of a file that begins with \"schedules:\" and holds a list: %s" (get $file "Error")) -}}
{{- end -}}
{{- end -}}
{{- $ours := list "PORT" "DATABASE_URL" "REDIS_URL" "ERRAND_DIRECT_DATABASE_URL" "ERRAND_POOLER" "ERRAND_ROLES" "ERRAND_AUTH" "ERRAND_HANDLERS_DIR" "ERRAND_PRIVATE_TARGETS" "ERRAND_SIGNING_SECRETS" "ERRAND_SCHEDULES" "ERRAND_START_WAIT_SECONDS" "ERRAND_DRAIN_DELAY_SECONDS" "ERRAND_DRAIN_DEADLINE_SECONDS" "ERRAND_INTAKE_CONNECTIONS" "ERRAND_ENGINE_CONNECTIONS" "ERRAND_READ_CONNECTIONS" -}}
{{- range $values.extraEnv -}}
{{- if has (trimSuffix "_FILE" .name) $ours -}}
{{- fail (printf "extraEnv names %s, which the chart sets from a value of its own or from a Secret; use that" .name) -}}
{{- end -}}
{{- if eq (trimSuffix "_FILE" .name) "ERRAND_PROCESSES" -}}
{{- fail "extraEnv names ERRAND_PROCESSES, whose connections are not counted here; on Kubernetes run more replicas instead" -}}
{{- end -}}
{{- if and (eq (trimSuffix "_FILE" .name) "ERRAND_STATEMENT_TIMEOUT_SECONDS") (not (and .value (eq .name "ERRAND_STATEMENT_TIMEOUT_SECONDS"))) -}}
{{- fail (printf "extraEnv names %s without a value, by which the grace period of pods is counted; give ERRAND_STATEMENT_TIMEOUT_SECONDS one" .name) -}}
{{- end -}}
{{- end -}}
{{- end }}
