# $1 is the number of versions installed afterwards: 1 on installation, 2 on an upgrade.
systemd-sysusers tapster.conf || :
# Whether a new service is enabled is for the presets of the distribution to say.
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset tapster.service >/dev/null 2>&1 || :
fi
