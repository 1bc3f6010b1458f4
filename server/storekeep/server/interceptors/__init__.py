"""What happens around every call, one file a step; `app.py` lists the steps in their order.

The request log, error mapping, the rate limit of addresses, revoked client certificates, forwarding, authentication,
the rate limits of callers, validation; nearest to the servicer wrong API keys are slowed down, and replicas are chosen.
"""
