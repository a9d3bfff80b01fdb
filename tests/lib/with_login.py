"""The bench's cluster, whose nodes ask for a login at their API."""

from cluster import Cluster

LOGIN = ("operator", "let-me-in")


class WithLogin(Cluster):
    def yaml(self, node):
        login = f"authentication: {{username: {LOGIN[0]}, password: {LOGIN[1]}}}"
        return super().yaml(node).replace("restapi: {", f"restapi: {{{login}, ", 1)
