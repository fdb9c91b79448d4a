systemctl daemon-reload >/dev/null 2>&1 || :
if [ "$1" -ge 1 ]; then
    # On an upgrade this runs last, when the new files are in place.
    systemctl try-restart tapster.service >/dev/null 2>&1 || :
else
    # cargo-generate-rpm has no entries for directories, so rpm does not know that these are the package's own.
    for directory in /usr/share/doc/tapster/docs /usr/share/doc/tapster/examples /usr/share/doc/tapster \
        /usr/share/tapster/dashboards /usr/share/tapster/rules /usr/share/tapster/systemd /usr/share/tapster \
        /usr/share/licenses/tapster /etc/tapster/probes.d /etc/tapster; do
        rmdir "$directory" 2>/dev/null || :
    done
fi
