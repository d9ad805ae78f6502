{{/* credentials.password: the password of one of Redis' users, derived (takes the root and the user's name) */}}
{{- define "credentials.password" -}}
{{ printf "%s of user-pods with %s" .user .root.Values.redisPassword | sha256sum }}
{{- end }}
