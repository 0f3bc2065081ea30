{{- define "hallmark.host" -}}
{{- (urlParse .Values.url).host -}}
{{- end -}}

{{- define "hallmark.hostname" -}}
{{- (urlParse .Values.url).hostname -}}
{{- end -}}

{{- define "hallmark.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "hallmark.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}

{{- define "hallmark.selector" -}}
app.kubernetes.io/name: hallmark-authority
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hallmark.labels" -}}
{{ include "hallmark.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "hallmark.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
fsGroup: 65534
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "hallmark.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Probes ask under the public name: hallmark up answers to no other. */}}
{{- define "hallmark.probe" -}}
httpGet:
  path: /healthz
  port: https
  scheme: HTTPS
  httpHeaders:
    - name: Host
      value: {{ include "hallmark.host" . | quote }}
{{- end -}}

{{/* Says only that the process answers: what it serves is for the probe of readiness. */}}
{{- define "hallmark.alive" -}}
{{ include "hallmark.probe" . | replace "/healthz" "/livez" }}
{{- end -}}

{{- define "hallmark.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "hallmark.selector" . | nindent 6 }}
{{- end -}}
