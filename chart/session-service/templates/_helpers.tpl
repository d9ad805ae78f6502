{{/*
  session-service.selector   the immutable selector
  session-service.labels     labels of every object
  session-service.users      the users' namespace
  session-service.roles      the roles that have a Deployment of their own, or `all` for one Deployment
  session-service.name       name of a role's Deployment and ServiceAccount (takes a dict of root and role)
  session-service.helmRoles  the roles that run helm, separated by spaces: a gateway does if it signs users in, and
                             creates their sessions
  session-service.binding    RoleBinding of a Role of the same name (takes a dict of root, name, namespace and the
                             roles that need it); without a namespace, the ClusterRoleBinding of a ClusterRole
  session-service.seals      whether the service seals cookies: with a gateway, or with the dashboard
  session-service.hosts      the hosts of the route to the gateway, as a YAML list
  session-service.tlsSecret  the Secret with the route's certificate; empty without one
  session-service.userValues the values for every user's release, as YAML
  session-service.profiles   the profiles, as YAML
  session-service.allValues  the common values and those of each profile, as a YAML list
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

{{- define "session-service.name" -}}
{{ .root.Release.Name }}{{ if ne .role "all" }}-{{ .role }}{{ end }}
{{- end }}

{{- define "session-service.helmRoles" -}}
{{- $settings := .Values.settings | default dict -}}
{{- $never := has (lower (get $settings "OIDC_CREATE")) (list "false" "off" "no" "0" "f" "n") -}}
api controller{{ if and (or .Values.gateway.oidc.issuer $settings.OIDC_ISSUER) (not $never) }} gateway{{ end }}
{{- end }}

{{- define "session-service.seals" -}}
{{- $off := has (lower (toString (get (.Values.settings | default dict) "DASHBOARD"))) (list "false" "off" "no" "0" "f" "n") -}}
{{- if or .Values.gateway.domain (not $off) }}true{{ end }}
{{- end }}

{{- define "session-service.binding" -}}
{{- $root := .root -}}
{{- $scope := empty .namespace | ternary "Cluster" "" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope }}RoleBinding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "session-service.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope }}Role
  name: {{ .name }}
subjects:
  {{- $needs := append .roles "all" }}
  {{- range $role := include "session-service.roles" $root | splitList " " }}
  {{- if has $role $needs }}
  - kind: ServiceAccount
    name: {{ include "session-service.name" (dict "root" $root "role" $role) }}
    namespace: {{ $root.Release.Namespace }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "session-service.userValues" -}}
{{- $values := deepCopy (.Values.userPod.values | default dict) -}}
{{- $policy := deepCopy ($values.networkPolicy | default dict) -}}
{{- if .Values.users.networkPolicies.enabled -}}
{{- /* The namespace's policies say it once for all. A policy per release would admit more, since policies add up. */ -}}
{{- $policy = merge $policy (dict "isolateUsers" false "enabled" false) -}}
{{- else if and $policy.enabled (not $policy.from) -}}
{{- /* The user's chart cannot know in which namespace the gateway is. */ -}}
{{- $_ := set $policy "from" (list (include "session-service.gatewayPeer" . | fromYaml)) -}}
{{- end -}}
{{- if $policy -}}
{{- $_ := set $values "networkPolicy" $policy -}}
{{- end -}}
{{ toYaml $values }}
{{- end }}

{{- define "session-service.profiles" -}}
{{- $common := include "session-service.userValues" . | fromYaml -}}
{{- $peer := include "session-service.gatewayPeer" . | fromYaml -}}
{{- $profiles := deepCopy (.Values.userPod.profiles | default dict) -}}
{{- range $profile := $profiles -}}
{{- $policy := dig "values" "networkPolicy" dict $profile -}}
{{- if and $policy.enabled (not $policy.from) (not (dig "networkPolicy" "from" nil $common)) -}}
{{- $_ := set $policy "from" (list $peer) -}}
{{- end -}}
{{- end -}}
{{ toYaml $profiles }}
{{- end }}

{{- define "session-service.allValues" -}}
{{- $all := list (.Values.userPod.values | default dict) -}}
{{- range .Values.userPod.profiles | default dict -}}
{{- $all = append $all (.values | default dict) -}}
{{- end -}}
{{ toYaml $all }}
{{- end }}

{{- define "session-service.gatewayPeer" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .Release.Namespace }}
podSelector:
  matchLabels:
    {{- include "session-service.selector" . | nindent 4 }}
    user-pods/gateway: "true"
{{- end }}

{{- define "session-service.hosts" -}}
{{- $domain := required "gateway.domain: set it, for example workspaces.example.com; a route needs its hosts" .Values.gateway.domain -}}
- {{ printf "*.%s" $domain | quote }}
{{- if or .Values.gateway.oidc.issuer (get (.Values.settings | default dict) "OIDC_ISSUER") }}
- {{ $domain | quote }}
{{- end }}
{{- end }}

{{- define "session-service.tlsSecret" -}}
{{- $certificate := .Values.gateway.certificate -}}
{{- if .Values.gateway.ingress.tlsSecret -}}
{{ .Values.gateway.ingress.tlsSecret }}
{{- else if $certificate.enabled -}}
{{ $certificate.secretName | default (printf "%s-workspaces-tls" .Release.Name) }}
{{- end -}}
{{- end }}
