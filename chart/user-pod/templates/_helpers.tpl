{{/*
The only source of names and labels. Scopes: each takes the root context.
  user-pod.uuid       the session's id
  user-pod.checkUuid  fails unless the id is well-formed and belongs to the release's name
  user-pod.name       user-<uuid>: release, Deployment, Service
  user-pod.selector   the immutable selector; the service's reservation uses the same
  user-pod.labels     labels of every object
  user-pod.chart      chart and version, as a label
  user-pod.owner      annotation with the user's id
  user-pod.ownerHash  label with the user's hash
  user-pod.claim      name of the claim for the home folder
  user-pod.testSelector  labels of the pod of `helm test`, for the NetworkPolicy; the selector above does not match them
  user-pod.probe      a probe (takes the probe, not the root): helm merges maps, so the default handler yields to another
*/}}

{{- define "user-pod.uuid" -}}
{{- .Values.uuid | default (trimPrefix "user-" .Release.Name) -}}
{{- end }}

{{- define "user-pod.checkUuid" -}}
{{- $uuid := include "user-pod.uuid" . -}}
{{- if not (regexMatch "^[a-z0-9]{8}$" $uuid) -}}
{{- fail (printf "uuid: %q is not 8 characters out of a-z and 0-9; name the release user-<uuid>, for example user-ab12cd34" $uuid) -}}
{{- else if ne .Release.Name (printf "user-%s" $uuid) -}}
{{- fail (printf "uuid: the release is called %q, but uuid %q belongs to a release user-%s" .Release.Name $uuid $uuid) -}}
{{- end -}}
{{- end }}

{{- define "user-pod.name" -}}
user-{{ include "user-pod.uuid" . }}
{{- end }}

{{- define "user-pod.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ include "user-pod.name" . | quote }}
{{- end }}

{{- define "user-pod.labels" -}}
{{ include "user-pod.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ include "user-pod.chart" . }}
uuid: {{ include "user-pod.uuid" . | quote }}
{{- end }}

{{- define "user-pod.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "user-pod.testSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/instance: {{ include "user-pod.name" . | quote }}
{{- end }}

{{- define "user-pod.owner" -}}
{{- with .Values.user.id -}}
user-pods/user-id: {{ . | quote }}
{{- end -}}
{{- end }}

{{- define "user-pod.ownerHash" -}}
{{- with .Values.user.id -}}
user-pods/user-hash: {{ . | sha256sum | trunc 40 | quote }}
{{- end -}}
{{- end }}

{{- define "user-pod.claim" -}}
{{ .Values.persistence.existingClaim | default (include "user-pod.name" .) }}
{{- end }}

{{- define "user-pod.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "user-pod.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "user-pod.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "user-pod.probe" -}}
{{- if or .httpGet .exec .grpc -}}
{{ toYaml (omit . "tcpSocket") }}
{{- else -}}
{{ toYaml . }}
{{- end -}}
{{- end }}
