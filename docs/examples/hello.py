from sofa_registry_adapters import Registry

with Registry() as registry:  # where: SOFA_REGISTRY_URL, else sofa-registry.toml, else local://
    hello = registry.publish("com.acme.Hello:1.0", port=12200, zone="a", metadata={"lang": "python"})
    for change in registry.watch("com.acme.Hello:1.0"):
        print([f"{one.address} weight {one.weight}" for one in change.instances])
        if change.added:
            hello.update(weight=50)
        elif change.updated:
            hello.unpublish()
        else:
            break
