{{/*
  session-service.selector   the immutable selector
  session-service.labels     labels of every object
  session-service.users      the users' namespace
  session-service.roles      the roles that have a Deployment of their own, or `all` for one Deployment
*/}}
{{- define "session-service.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "session-service.labels" -}}
{{ include "session-service.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "session-service.users" -}}
{{ .Values.usersNamespace | default .Release.Namespace }}
{{- end }}

{{- define "session-service.roles" -}}
{{ if .Values.roles.separate }}api controller{{ if .Values.gateway.domain }} gateway{{ end }}{{ else }}all{{ end }}
{{- end }}
