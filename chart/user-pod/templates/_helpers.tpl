{{/*
The only source of names and labels. Scopes: each takes the root context.
  user-pod.uuid       the session's id
  user-pod.checkUuid  fails unless the id is well-formed and belongs to the release's name
  user-pod.name       user-<uuid>: release, Deployment, Service
  user-pod.selector   the immutable selector; the service's reservation uses the same
  user-pod.labels     labels of every object
  user-pod.chart      chart and version, as a label
  user-pod.owner      annotation with the user's id
  user-pod.annotations  annotations of the Deployment: the user's id, and the revision
  user-pod.ownerHash  label with the user's hash
  user-pod.assignment labels with the session's profile and group
  user-pod.claim      name of the claim for the home folder
  user-pod.testSelector  labels of the pod of `helm test`, for the NetworkPolicy; the selector above does not match them
  user-pod.probe      a probe (takes the probe, not the root): helm merges maps, so the default handler yields to another
  user-pod.startup    the startup probe; without a handler, one that waits for the port
  user-pod.auth       how the default image lets people in: none or password; empty for other images
  user-pod.args       arguments of the image
  user-pod.isolated   not empty if the pod gets the NetworkPolicy that keeps other users' pods out
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

{{- define "user-pod.annotations" -}}
{{- include "user-pod.owner" . -}}
{{- with .Values.revision }}
user-pods/revision: {{ . | quote }}
{{- end -}}
{{- end }}

{{- define "user-pod.ownerHash" -}}
{{- with .Values.user.id -}}
user-pods/user-hash: {{ . | sha256sum | trunc 40 | quote }}
{{- end -}}
{{- end }}

{{- define "user-pod.assignment" -}}
{{- with .Values.profile -}}
user-pods/profile: {{ . | quote }}
{{ end -}}
{{- with .Values.group -}}
user-pods/group: {{ . | quote }}
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

{{- define "user-pod.startup" -}}
{{- $probe := .Values.probes.startup -}}
{{- if or $probe.exec $probe.httpGet $probe.tcpSocket $probe.grpc -}}
{{ include "user-pod.probe" $probe }}
{{- else -}}
{{- $seconds := mul ($probe.failureThreshold | default 3) ($probe.periodSeconds | default 10) -}}
# Waits for 5 s, with what every image with a shell has. 0A means that somebody listens.
exec:
  command:
    - /bin/sh
    - -c
    - |
      end=$(($(date +%s) + 5))
      while [ "$(date +%s)" -le "$end" ]; do
        for sockets in /proc/net/tcp /proc/net/tcp6; do
          [ -r "$sockets" ] || continue
          while read -r _ address _ state _; do
            [ "${address##*:} $state" = "{{ printf "%04X" (int .Values.port) }} 0A" ] && exit 0
          done < "$sockets"
        done
        sleep 0.1 2>/dev/null || sleep 1
      done
      echo "nothing listens on port {{ .Values.port }} yet"
      exit 1
timeoutSeconds: 15
failureThreshold: {{ max 1 (div (add $seconds 4) 5) }}
{{- with omit $probe "timeoutSeconds" "failureThreshold" }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end }}

{{- define "user-pod.auth" -}}
{{- if regexMatch "(^|/)codercom/code-server$" .Values.image.repository -}}
{{- $own := false -}}
{{- range .Values.env -}}
{{- if has .name (list "PASSWORD" "HASHED_PASSWORD") -}}
{{- $own = true -}}
{{- end -}}
{{- end -}}
{{ .Values.codeServer.auth | default (ternary "password" "none" (or .Values.ingress.enabled $own)) }}
{{- end -}}
{{- end }}

{{- define "user-pod.args" -}}
{{- if .Values.args -}}
{{ toYaml .Values.args }}
{{- else if and (not .Values.command) (eq (include "user-pod.auth" .) "none") -}}
{{ toYaml (list "--auth" "none") }}
{{- end -}}
{{- end }}

{{- define "user-pod.isolated" -}}
{{- with .Values.networkPolicy -}}
{{- if and .isolateUsers (not .enabled) (or .outside (not $.Values.ingress.enabled)) -}}
yes
{{- end -}}
{{- end -}}
{{- end }}
