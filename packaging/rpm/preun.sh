# 0 versions remain: a removal. The socket first, or the next scrape would start the service again.
if [ "$1" -eq 0 ]; then
    systemctl --no-reload disable --now tapster.socket tapster.service >/dev/null 2>&1 || :
fi
