{{/*
What the database must bear. While pods are replaced there are, besides the replicas, up to maxSurge that come and, because
minReadySeconds is the grace period, at most as many that still drain. Each opens at most its pools and the connection that
listens; a dispatcher has two more for its office. A migration has a session that works and one that holds the lock.
*/}}

{{/* The most connections a process takes from its pools: (list $ component). */}}
{{- define "errand.pools" -}}
{{- $component := index . 1 -}}
{{- $sizes := (index (index . 0).Values $component).connections -}}
{{- add $sizes.intake $sizes.engine $sizes.read (ternary 2 0 (has $component (list "all" "dispatcher"))) -}}
{{- end }}

{{/* Fails with the numbers when they do not fit. */}}
{{- define "errand.budget" -}}
{{- $database := .Values.database -}}
{{- $surge := int .Values.rollout.maxSurge -}}
{{- $pooled := ne $database.pooler.mode "" -}}
{{- $migration := ternary 2 0 .Values.migration.enabled -}}
{{- $direct := $migration -}}
{{- $clients := ternary 1 0 .Values.migration.enabled -}}
{{- $lines := list -}}
{{- range $component := splitList "," (include "errand.components" .) -}}
{{- $replicas := int (index $.Values $component).replicas -}}
{{- $processes := add $replicas $surge $surge -}}
{{- $pools := include "errand.pools" (list $ $component) | int -}}
{{- $each := ternary 1 (add $pools 1) $pooled -}}
{{- $direct = add $direct (mul $processes $each) -}}
{{- $clients = add $clients (mul $processes $pools) -}}
{{- $lines = append $lines (printf "%s: (%d replicas + %d coming + %d draining) x %d = %d" $component $replicas $surge $surge $each (mul $processes $each)) -}}
{{- end -}}
{{- if $migration -}}{{- $lines = append $lines (printf "migration: %d" $migration) -}}{{- end -}}
{{- if $pooled -}}
{{- $direct = add $direct $database.pooler.serverConnections -}}
{{- $lines = append $lines (printf "pooler: %d" (int $database.pooler.serverConnections)) -}}
{{- if gt $clients (int $database.pooler.clientConnections) -}}
{{- fail (printf "the pooler takes too few connections: processes open up to %d and database.pooler.clientConnections is %d; raise max_client_conn of the pooler and that value" $clients (int $database.pooler.clientConnections)) -}}
{{- end -}}
{{- end -}}
{{- $there := sub $database.maxConnections $database.reservedConnections -}}
{{- $sum := printf "up to %d of %d connections (database.maxConnections %d - reservedConnections %d)" $direct $there (int $database.maxConnections) (int $database.reservedConnections) -}}
{{- if gt (int $direct) (int $there) -}}
{{- fail (printf "the connections do not fit into the database: a rollout takes %s\n  %s\nrun fewer replicas, make the pools smaller, raise max_connections of Postgres and database.maxConnections, or put a pooler in between (database.pooler)" $sum (join "\n  " $lines)) -}}
{{- end -}}
{{- $sum -}}
{{- end }}
