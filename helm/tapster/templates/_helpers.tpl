{{/* Name of the application. */}}
{{- define "tapster.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
Name of the objects: the release's, which holds the application's name once. Names of objects have something added, so it is
kept shorter than the 63 characters that a label may have.
*/}}
{{- define "tapster.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 44 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 44 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 44 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* By these the DaemonSet finds its pods. They can never change, so there are no more of them. */}}
{{- define "tapster.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tapster.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of all objects. */}}
{{- define "tapster.labels" -}}
{{- $own := fromYaml (include "tapster.ownLabels" .) -}}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{- define "tapster.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tapster.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: exporter
app.kubernetes.io/part-of: tapster
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels of pods: without the chart's version, so that a new chart alone does not replace them. */}}
{{- define "tapster.podLabels" -}}
{{- $own := omit (fromYaml (include "tapster.ownLabels" .)) "helm.sh/chart" "app.kubernetes.io/managed-by" -}}
{{- toYaml (merge $own .Values.podLabels .Values.commonLabels) }}
{{- end }}

{{/* Labels of an object together with its own: (dict "root" $ "labels" .Values.….labels). */}}
{{- define "tapster.labelsAnd" -}}
{{- $common := fromYaml (include "tapster.labels" .root) -}}
{{- toYaml (merge $common .labels) }}
{{- end }}

{{- define "tapster.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tapster.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tapster.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is needed: no image is published. Build one with the Containerfile, push it to a registry of yours, and set image.repository to it" $image.repository -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* The version of Kubernetes that is written for. */}}
{{- define "tapster.kubeVersion" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersion }}
{{- end }}

{{/* Whether there is a ConfigMap with probes. */}}
{{- define "tapster.hasProbes" -}}
{{- if or .Values.probes.library .Values.probes.custom }}true{{ end }}
{{- end }}

{{/* Files of probes, by name. */}}
{{- define "tapster.probes" -}}
{{- $files := dict -}}
{{- $shipped := dict -}}
{{- with .Values.probes.library }}{{ $_ := set $shipped "library" . }}{{ end }}
{{- with .Values.probes.overrides }}{{ $_ := set $shipped "overrides" . }}{{ end }}
{{- with $shipped }}
{{- $_ := set $files "library.yaml" (toYaml . | printf "%s\n") }}
{{- end }}
{{- range $name, $probes := .Values.probes.custom }}
{{- $text := kindIs "string" $probes | ternary $probes (toYaml $probes | printf "%s\n") }}
{{- $_ := set $files (printf "%s.yaml" $name) $text }}
{{- end }}
{{- toYaml $files }}
{{- end }}

{{/* Whether a web configuration file is given to tapster. */}}
{{- define "tapster.hasWebConfig" -}}
{{- $web := .Values.web -}}
{{- if and $web.enabled (or $web.tls.enabled $web.basicAuth.enabled $web.configSecret.name) }}true{{ end }}
{{- end }}

{{/* Whether clients must show a certificate. */}}
{{- define "tapster.needsClientCertificate" -}}
{{- $tls := .Values.web.tls -}}
{{- if and $tls.enabled (has $tls.clientAuthType (list "RequireAnyClientCert" "RequireAndVerifyClientCert")) }}true{{ end }}
{{- end }}

{{/* Whether clients' certificates are verified, for which their authorities are needed. */}}
{{- define "tapster.verifiesClients" -}}
{{- $tls := .Values.web.tls -}}
{{- if and $tls.enabled (has $tls.clientAuthType (list "VerifyClientCertIfGiven" "RequireAndVerifyClientCert")) }}true{{ end }}
{{- end }}

{{/* Whether only those who know or have something may ask. */}}
{{- define "tapster.isClosed" -}}
{{- if or .Values.web.basicAuth.enabled (include "tapster.needsClientCertificate" .) }}true{{ end }}
{{- end }}

{{- define "tapster.scheme" -}}
{{- if .Values.web.tls.enabled }}https{{ else }}http{{ end }}
{{- end }}

{{/* The web configuration file, in the form of the Prometheus exporter toolkit. */}}
{{- define "tapster.webConfig" -}}
{{- $web := .Values.web -}}
{{- if $web.tls.enabled }}
tls_server_config:
  cert_file: /etc/tapster/tls/{{ $web.tls.certKey }}
  key_file: /etc/tapster/tls/{{ $web.tls.keyKey }}
  client_auth_type: {{ $web.tls.clientAuthType }}
  {{- if include "tapster.verifiesClients" . }}
  {{- $hasOwn := or $web.tls.clientCA.existingSecret $web.tls.clientCA.existingConfigMap | empty | not }}
  {{- $directory := ternary "client-ca" "tls" $hasOwn }}
  client_ca_file: /etc/tapster/{{ $directory }}/{{ $web.tls.clientCA.key }}
  {{- end }}
  {{- with $web.tls.minVersion }}
  min_version: {{ . }}
  {{- end }}
{{- end }}
{{- if $web.basicAuth.enabled }}
basic_auth_users:
  {{- toYaml $web.basicAuth.users | nindent 2 }}
{{- end }}
{{- end }}

{{/* A list `KEY=VALUE,KEY=VALUE` of a map, in which a comma or a percent sign is written as OpenTelemetry has it. */}}
{{- define "tapster.pairs" -}}
{{- $pairs := list -}}
{{- range $key, $value := . }}
{{- $pairs = append $pairs (printf "%s=%s" $key ($value | toString | replace "%" "%25" | replace "," "%2C")) }}
{{- end }}
{{- join "," $pairs }}
{{- end }}

{{/* A volume of a Secret or a ConfigMap: (dict "name" … "from" .Values.…). */}}
{{- define "tapster.volumeFrom" -}}
- name: {{ .name }}
  {{- if .from.existingSecret }}
  secret:
    secretName: {{ .from.existingSecret | quote }}
    defaultMode: 0400
  {{- else }}
  configMap:
    name: {{ .from.existingConfigMap | quote }}
  {{- end }}
{{- end }}

{{/* A health check: (dict "root" $ "check" .Values.…Probe "path" "/-/…"). It is HTTP where anybody may ask, else TCP. */}}
{{- define "tapster.check" -}}
{{- if include "tapster.isClosed" .root }}
tcpSocket:
  port: metrics
{{- else }}
httpGet:
  path: {{ .path }}
  port: metrics
  scheme: {{ include "tapster.scheme" .root | upper }}
{{- end }}
{{ omit .check "enabled" "require" | toYaml }}
{{- end }}

{{/* What a monitor says about a scrape: (dict "root" $ "monitor" .Values.…Monitor "node" "LABEL"). */}}
{{- define "tapster.endpoint" -}}
{{- $web := .root.Values.web -}}
{{- $monitor := .monitor -}}
port: metrics
path: {{ $web.telemetryPath }}
scheme: {{ include "tapster.scheme" .root }}
{{- if $web.tls.enabled }}
tlsConfig:
  {{- default (dict "insecureSkipVerify" true) $monitor.tlsConfig | toYaml | nindent 2 }}
{{- end }}
{{- if $web.basicAuth.enabled }}
basicAuth:
  {{- toYaml $monitor.basicAuth | nindent 2 }}
{{- end }}
{{- with $monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with $monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- if $monitor.honorLabels }}
honorLabels: true
{{- end }}
{{- if or $monitor.instanceIsNode $monitor.relabelings }}
relabelings:
  {{- if $monitor.instanceIsNode }}
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: instance
  {{- end }}
  {{- with $monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with $monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a monitor says about formats. */}}
{{- define "tapster.formats" -}}
{{- with .scrapeProtocols }}
scrapeProtocols:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "bool" .nativeHistograms }}
scrapeNativeHistograms: {{ .nativeHistograms }}
{{- end }}
{{- if kindIs "bool" .classicHistograms }}
scrapeClassicHistograms: {{ .classicHistograms }}
{{- end }}
{{- end }}

{{/* Says what does not go together. Values that are wrong by themselves are refused by values.schema.json. */}}
{{- define "tapster.validate" -}}
{{- $values := .Values -}}
{{- $web := $values.web -}}
{{- if not (or (include "tapster.hasProbes" .) $values.probes.existingConfigMap) }}
{{- fail "probes: there is none. Set probes.library, probes.custom or probes.existingConfigMap" }}
{{- end }}
{{- if not (or $values.prometheus.enabled $values.otlp.enabled) }}
{{- fail "prometheus.enabled and otlp.enabled are both false, so metrics would go nowhere" }}
{{- end }}
{{- if and $values.prometheus.enabled (not $web.enabled) }}
{{- fail "web.enabled is false, so nobody can scrape: set prometheus.enabled to false as well" }}
{{- end }}
{{- if not (or (and $values.capabilities.BPF $values.capabilities.PERFMON) $values.capabilities.SYS_ADMIN) }}
{{- fail "capabilities: BPF and PERFMON are needed, or SYS_ADMIN where the runtime does not know them" }}
{{- end }}
{{- if and $web.tls.enabled (not $web.tls.existingSecret) }}
{{- fail "web.tls.existingSecret is needed with web.tls.enabled: a Secret with certificate and key" }}
{{- end }}
{{- if and $web.basicAuth.enabled (not $web.basicAuth.users) (not $web.configSecret.name) }}
{{- fail "web.basicAuth.users is needed with web.basicAuth.enabled: names with bcrypt hashes" }}
{{- end }}
{{- if and $web.configSecret.name $web.basicAuth.users }}
{{- fail "web.basicAuth.users and web.configSecret.name exclude each other: the Secret has the users" }}
{{- end }}
{{- if and $values.podMonitor.enabled $values.serviceMonitor.enabled }}
{{- fail "podMonitor.enabled and serviceMonitor.enabled are both true: every pod would be scraped twice" }}
{{- end }}
{{- range $name := list "podMonitor" "serviceMonitor" }}
{{- $monitor := index $values $name }}
{{- if $monitor.enabled }}
{{- if not $values.prometheus.enabled }}
{{- fail (printf "%s.enabled needs prometheus.enabled: there is nothing to scrape" $name) }}
{{- end }}
{{- if and $web.basicAuth.enabled (not $monitor.basicAuth) }}
{{- fail (printf "%s.basicAuth is needed with web.basicAuth.enabled" $name) }}
{{- end }}
{{- if and (include "tapster.needsClientCertificate" $) (not $monitor.tlsConfig) }}
{{- fail (printf "%s.tlsConfig is needed, with a client certificate, because of web.tls.clientAuthType" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $values.serviceMonitor.enabled (not $values.service.enabled) }}
{{- fail "serviceMonitor.enabled needs service.enabled" }}
{{- end }}
{{- if and $values.otlp.enabled $values.otlp.headers $values.otlp.headersSecret.name }}
{{- fail "otlp.headers and otlp.headersSecret.name exclude each other: put all headers into the Secret" }}
{{- end }}
{{- if and (eq $values.seccompProfile.type "Localhost") (not $values.seccompProfile.localhostProfile) }}
{{- fail "seccompProfile.localhostProfile is needed with seccompProfile.type Localhost" }}
{{- end }}
{{- if and $values.prometheusRule.enabled (not (has true (values $values.prometheusRule.groups))) }}
{{- fail "prometheusRule.groups: all are switched off; set prometheusRule.enabled to false" }}
{{- end }}
{{- end }}
