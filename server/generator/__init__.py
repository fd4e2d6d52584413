"""The service ganserve.v1.Generator: Generate, Translate, ListModels, DescribeModel."""
